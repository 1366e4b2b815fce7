'use strict';
// Decodes JPEG files to the same values as libjpeg, also at 1/2, 1/4 and 1/8 of their size, as Python opens large ones.
// Browsers cannot decode at a reduced size, and a network's answer changes by up to 0.1 when they average instead.
// It knows baseline and progressive files with grey or YCbCr colors; for others decodeJpeg gives null.

const ZIGZAG = new Uint8Array([
  0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
  35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55,
  62, 63]);

// Gives {width, height, data (RGBA)}, upright, whose sides are at least neededPx where the file's are.
function decodeJpeg(bytes, neededPx) {
  const file = {tables: {}, quantization: [], restart: 0, orientation: 1, frame: null, isRgb: false, nScans: 0};
  let at = 2;
  while (at + 4 <= bytes.length) {
    if (bytes[at] !== 0xff) { at++; continue; }
    const marker = bytes[at + 1];
    if (marker === 0xff || marker === 0 || (marker >= 0xd0 && marker <= 0xd8)) { at += marker === 0xff ? 1 : 2; continue; }
    if (marker === 0xd9) break;
    const body = bytes.subarray(at + 4, at + 2 + (bytes[at + 2] << 8 | bytes[at + 3]));
    at += 4 + body.length;
    if (marker === 0xc0 || marker === 0xc1 || marker === 0xc2) {
      file.frame = readFrame(body, marker === 0xc2);
      if (!file.frame) return null;
    } else if (marker >= 0xc3 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) {
      return null; // lossless, hierarchical or arithmetic coding
    } else if (marker === 0xc4) readHuffman(body, file.tables);
    else if (marker === 0xdb) readQuantization(body, file.quantization);
    else if (marker === 0xdd) file.restart = body[0] << 8 | body[1];
    else if (marker === 0xe1) file.orientation = readOrientation(body) || file.orientation;
    else if (marker === 0xee && body[0] === 0x41 && body[1] === 0x64) file.isRgb = body[11] !== 1;
    else if (marker === 0xda) {
      if (!file.frame) return null;
      at = readScan(bytes, at, body, file);
      file.nScans++;
    }
  }
  if (!file.nScans || (file.isRgb && file.frame.parts.length === 3)) return null;
  const {width, height} = file.frame;
  const ratio = Math.min(Math.floor(width / neededPx), Math.floor(height / neededPx));
  const planes = transformBlocks(file.frame, 8 / [8, 4, 2, 1].find((s) => ratio >= s || s === 1));
  return planes && turn(convertToRgba(planes), file.orientation);
}

function readFrame(body, isProgressive) {
  const [height, width, n] = [body[1] << 8 | body[2], body[3] << 8 | body[4], body[5]];
  if (body[0] !== 8 || !height || !width || (n !== 1 && n !== 3)) return null;
  const parts = Array.from({length: n}, (_, i) => {
    const [id, sampling, table] = body.subarray(6 + 3 * i);
    return {id, h: n === 1 ? 1 : sampling >> 4, v: n === 1 ? 1 : sampling & 15, table};
  });
  if (String.fromCharCode(...parts.map((part) => part.id)) === 'RGB') return null;
  const [maxH, maxV] = [Math.max(...parts.map((part) => part.h)), Math.max(...parts.map((part) => part.v))];
  const [nMcuX, nMcuY] = [Math.ceil(width / (8 * maxH)), Math.ceil(height / (8 * maxV))];
  for (const part of parts) {
    part.nX = nMcuX * part.h; // blocks that are stored; those of a scan of this part alone are fewer
    part.ownX = Math.ceil(Math.ceil(width * part.h / maxH) / 8);
    part.ownY = Math.ceil(Math.ceil(height * part.v / maxV) / 8);
    part.blocks = new Int16Array(64 * part.nX * nMcuY * part.v);
  }
  return {width, height, parts, maxH, maxV, nMcuX, nMcuY, isProgressive};
}

function readHuffman(body, tables) {
  for (let at = 0; at + 17 <= body.length;) {
    const lookup = tables[body[at]] = new Uint16Array(65536); // of the next 16 bits: length of the code, and its symbol
    let [code, symbolAt] = [0, at + 17];
    for (let length = 1; length <= 16; length++) {
      for (let i = body[at + length]; i > 0; i--, code += 65536 >> length) {
        lookup.fill(length << 8 | body[symbolAt++], code, code + (65536 >> length));
      }
    }
    at = symbolAt;
  }
}

function readQuantization(body, quantization) {
  for (let at = 0; at < body.length;) {
    const [isWide, values] = [body[at] >> 4, new Int32Array(64)];
    quantization[body[at++] & 15] = values;
    for (let i = 0; i < 64; i++, at += isWide ? 2 : 1) values[ZIGZAG[i]] = isWide ? body[at] << 8 | body[at + 1] : body[at];
  }
}

function readOrientation(body) {
  if (String.fromCharCode(...body.subarray(0, 4)) !== 'Exif') return 0;
  const [view, isLittle] = [new DataView(body.buffer, body.byteOffset + 6, body.length - 6), body[6] === 0x49];
  try {
    const first = view.getUint32(4, isLittle);
    for (let i = view.getUint16(first, isLittle), at = first + 2; i > 0; i--, at += 12) {
      if (view.getUint16(at, isLittle) === 0x112) return view.getUint16(at + 8, isLittle);
    }
  } catch { /* EXIF data that are cut short: the image is taken as upright, as in Python */ }
  return 0;
}

// Reads the coefficients of one scan into the blocks; gives where the next marker is.
function readScan(bytes, at, body, file) {
  const {frame, tables} = file;
  const parts = Array.from({length: body[0]}, (_, i) => {
    const part = frame.parts.find((one) => one.id === body[1 + 2 * i]);
    part.dc = tables[body[2 + 2 * i] >> 4];
    part.ac = tables[16 | (body[2 + 2 * i] & 15)];
    part.quantization ??= file.quantization[part.table];
    return part;
  });
  const [begin, end, accuracy] = body.subarray(1 + 2 * body[0]);
  const [high, low] = [accuracy >> 4, accuracy & 15];
  let [held, nHeld, run] = [0, 0, 0];

  function fill() {
    while (nHeld <= 16) {
      let byte = 0;
      if (at >= bytes.length) throw new Error('The file is cut short.');
      if (bytes[at] !== 0xff) byte = bytes[at++];
      else if (bytes[at + 1] === 0) { byte = 0xff; at += 2; } // else a marker, before which zeros are read
      held = held << 8 | byte;
      nHeld += 8;
    }
  }
  function readBits(n) {
    if (!n) return 0;
    if (nHeld < n) fill();
    nHeld -= n;
    return held >>> nHeld & (1 << n) - 1;
  }
  function readSymbol(lookup) {
    if (nHeld < 16) fill();
    const entry = lookup[held >>> (nHeld - 16) & 0xffff];
    nHeld -= entry >> 8;
    return entry & 255;
  }
  function readSigned(n) {
    const value = readBits(n);
    return n && value < 1 << (n - 1) ? value - (1 << n) + 1 : value;
  }
  function readAll(part, blocks, base) {
    blocks[base] = part.last += readSigned(readSymbol(part.dc));
    for (let i = 1; i < 64; i++) {
      const symbol = readSymbol(part.ac);
      if (!symbol) return;
      i += symbol >> 4;
      if (symbol & 15) blocks[base + ZIGZAG[i & 63]] = readSigned(symbol & 15);
    }
  }
  function readDc(part, blocks, base) {
    if (high) blocks[base] |= readBits(1) << low;
    else blocks[base] = (part.last += readSigned(readSymbol(part.dc))) << low;
  }
  function readAcFirst(part, blocks, base) {
    if (run) { run--; return; }
    for (let i = begin; i <= end; i++) {
      const symbol = readSymbol(part.ac);
      const [skip, size] = [symbol >> 4, symbol & 15];
      if (!size && skip < 15) { run = (1 << skip) - 1 + readBits(skip); return; }
      i += skip;
      if (size) blocks[base + ZIGZAG[i & 63]] = readSigned(size) << low;
    }
  }
  function readAcMore(part, blocks, base) {
    const refine = (place) => {
      if (readBits(1) && !(Math.abs(blocks[place]) & 1 << low)) blocks[place] += blocks[place] > 0 ? 1 << low : -1 << low;
    };
    let i = begin;
    for (; !run && i <= end; i++) {
      const symbol = readSymbol(part.ac);
      let [skip, value] = [symbol >> 4, 0];
      if (symbol & 15) value = readBits(1) ? 1 << low : -1 << low;
      else if (skip < 15) { run = (1 << skip) + readBits(skip); break; }
      for (; i <= end; i++) {
        const place = base + ZIGZAG[i];
        if (blocks[place]) refine(place);
        else if (!skip--) { blocks[place] = value; break; }
      }
    }
    if (!run) return;
    for (; i <= end; i++) if (blocks[base + ZIGZAG[i]]) refine(base + ZIGZAG[i]);
    run--;
  }

  const read = !frame.isProgressive ? readAll : !begin ? readDc : high ? readAcMore : readAcFirst;
  const isOne = parts.length === 1;
  const [nX, nY] = isOne ? [parts[0].ownX, parts[0].ownY] : [frame.nMcuX, frame.nMcuY];
  for (const part of parts) part.last = 0;
  for (let mcu = 0; mcu < nX * nY; mcu++) {
    if (file.restart && mcu && mcu % file.restart === 0) {
      [held, nHeld, run] = [0, 0, 0];
      while (at < bytes.length && !(bytes[at] === 0xff && bytes[at + 1] >= 0xd0 && bytes[at + 1] <= 0xd7)) at++;
      at += 2;
      for (const part of parts) part.last = 0;
    }
    const [x, y] = [mcu % nX, Math.floor(mcu / nX)];
    for (const part of parts) {
      const [h, v] = isOne ? [1, 1] : [part.h, part.v];
      for (let i = 0; i < h * v; i++) {
        read(part, part.blocks, 64 * ((y * v + Math.floor(i / h)) * part.nX + x * h + i % h));
      }
    }
  }
  return at;
}

// Turns coefficients into planes of `size` by `size` pixels per block; a part with fewer samples keeps more of its own.
function transformBlocks({width, height, parts, maxH, maxV}, size) {
  const [outWidth, outHeight] = [Math.ceil(width * size / 8), Math.ceil(height * size / 8)];
  const planes = [];
  for (const part of parts) {
    let own = size;
    while (own < 8 && maxH * size % (part.h * own * 2) === 0 && maxV * size % (part.v * own * 2) === 0) own *= 2;
    const stride = part.nX * own;
    const plane = {data: new Uint8ClampedArray(part.blocks.length / 64 * own * own), stride,
      width: Math.ceil(width * part.h * own / (maxH * 8)), height: Math.ceil(height * part.v * own / (maxV * 8))};
    const invert = {1: invert1, 2: invert2, 4: invert4, 8: invert8}[own];
    const values = new Int32Array(64);
    for (let block = 0; block < part.blocks.length / 64; block++) {
      for (let i = 0; i < 64; i++) values[i] = part.blocks[64 * block + i] * part.quantization[i];
      invert(values, plane.data, Math.floor(block / part.nX) * own * stride + block % part.nX * own, stride);
    }
    planes.push(enlarge(plane, maxH * size / (part.h * own), maxV * size / (part.v * own), size > 1));
  }
  return planes.includes(null) ? null : {planes, width: outWidth, height: outHeight};
}

function invert1(c, out, at) {
  out[at] = (c[0] + 4 >> 3) + 128;
}

function invert2(c, out, at, stride) {
  const odd = (a, b, d, e) => -5906 * a + 6967 * b - 10426 * d + 29692 * e;
  const rows = [[], []];
  for (const x of [0, 1, 3, 5, 7]) {
    const [even, sum] = [c[x] << 15, odd(c[56 + x], c[40 + x], c[24 + x], c[8 + x])];
    [rows[0][x], rows[1][x]] = [even + sum + 4096 >> 13, even - sum + 4096 >> 13];
  }
  for (const w of rows) {
    const [even, sum] = [w[0] << 15, odd(w[7], w[5], w[3], w[1])];
    out[at] = (even + sum + (1 << 19) >> 20) + 128;
    out[at + 1] = (even - sum + (1 << 19) >> 20) + 128;
    at += stride;
  }
}

const WORK = new Int32Array(64);

function invert4(c, out, at, stride) {
  const step = (values, i, by, shift, write) => {
    const even = values[i] << 14;
    const turned = 15137 * values[i + 2 * by] - 6270 * values[i + 6 * by];
    const [z1, z2, z3, z4] = [values[i + 7 * by], values[i + 5 * by], values[i + 3 * by], values[i + by]];
    const inner = -1730 * z1 + 11893 * z2 - 17799 * z3 + 8697 * z4;
    const outer = -4176 * z1 - 4926 * z2 + 7373 * z3 + 20995 * z4;
    const half = 1 << shift - 1;
    write(even + turned + outer + half >> shift, even - turned + inner + half >> shift,
      even - turned - inner + half >> shift, even + turned - outer + half >> shift);
  };
  for (let x = 0; x < 8; x++) {
    if (x === 4) continue; // no row looks at it
    step(c, x, 8, 12, (a, b, d, e) => { [WORK[x], WORK[8 + x], WORK[16 + x], WORK[24 + x]] = [a, b, d, e]; });
  }
  for (let y = 0; y < 4; y++, at += stride) {
    step(WORK, 8 * y, 1, 19, (a, b, d, e) => {
      out[at] = a + 128; out[at + 1] = b + 128; out[at + 2] = d + 128; out[at + 3] = e + 128;
    });
  }
}

function invert8(c, out, at, stride) {
  for (let x = 0; x < 8; x++) invertLine(c, x, 8, 11, WORK, x, 8, 0);
  for (let y = 0; y < 8; y++) invertLine(WORK, 8 * y, 1, 18, out, at + y * stride, 1, 128);
}

function invertLine(c, i, by, shift, out, at, step, offset) {
  const z = (c[i + 2 * by] + c[i + 6 * by]) * 4433;
  const [low, high] = [z - c[i + 6 * by] * 15137, z + c[i + 2 * by] * 6270];
  const [sum, difference] = [c[i] + c[i + 4 * by] << 13, c[i] - c[i + 4 * by] << 13];
  const [c7, c5, c3, c1] = [c[i + 7 * by], c[i + 5 * by], c[i + 3 * by], c[i + by]];
  const z5 = (c7 + c3 + c5 + c1) * 9633;
  const [z1, z2, z3, z4] = [(c7 + c1) * -7373, (c5 + c3) * -20995, (c7 + c3) * -16069 + z5, (c5 + c1) * -3196 + z5];
  const evens = [sum + high, difference + low, difference - low, sum - high];
  const odds = [c1 * 12299 + z1 + z4, c3 * 25172 + z2 + z3, c5 * 16819 + z2 + z4, c7 * 2446 + z1 + z3];
  const half = 1 << shift - 1;
  for (let k = 0; k < 4; k++) {
    out[at + k * step] = (evens[k] + odds[k] + half >> shift) + offset;
    out[at + (7 - k) * step] = (evens[k] - odds[k] + half >> shift) + offset;
  }
}

// Gives a plane as many samples as the image has pixels: smoothly where libjpeg does, null where it has another way.
function enlarge({data, stride, width, height}, x, y, isSmooth) {
  if (x === 1 && y === 1) return {data, stride};
  if (x !== 2 || y > 2) return null;
  const isRough = !isSmooth || width <= 2;
  const out = new Uint8ClampedArray(2 * width * height * y);
  const sums = new Int32Array(width);
  const [shift, before, after] = y === 1 ? [2, 1, 2] : [4, 8, 7];
  for (let row = 0; row < height * y; row++) {
    const near = Math.floor(row / y);
    const far = Math.min(height - 1, Math.max(0, row % 2 ? near + 1 : near - 1));
    for (let i = 0; i < width; i++) {
      const value = data[near * stride + i];
      sums[i] = isRough || y === 1 ? value : 3 * value + data[far * stride + i];
    }
    for (let i = 0, at = 2 * width * row; i < width; i++) {
      const [left, right] = [sums[Math.max(0, i - 1)], sums[Math.min(width - 1, i + 1)]];
      out[at++] = isRough ? sums[i] : 3 * sums[i] + left + before >> shift;
      out[at++] = isRough ? sums[i] : 3 * sums[i] + right + after >> shift;
    }
  }
  return {data: out, stride: 2 * width};
}

function convertToRgba({planes: [luma, blue, red], width, height}) {
  const data = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      const value = luma.data[y * luma.stride + x];
      const cb = blue ? blue.data[y * blue.stride + x] - 128 : 0;
      const cr = red ? red.data[y * red.stride + x] - 128 : 0;
      data[at] = value + (91881 * cr + 32768 >> 16);
      data[at + 1] = value + (-22554 * cb - 46802 * cr + 32768 >> 16);
      data[at + 2] = value + (116130 * cb + 32768 >> 16);
    }
  }
  return {width, height, data};
}

// Turns an image as the orientation of its EXIF data asks: 2 to 8, 1 is upright.
function turn({width, height, data}, orientation) {
  if (!(orientation >= 2 && orientation <= 8)) return {width, height, data};
  const isSwapped = orientation >= 5;
  const [isMirrored, isFlipped] = [[2, 3, 7, 8].includes(orientation), [3, 4, 6, 7].includes(orientation)];
  const [outWidth, outHeight] = isSwapped ? [height, width] : [width, height];
  const [from, out] = [new Uint32Array(data.buffer), new Uint32Array(width * height)];
  for (let y = 0, at = 0; y < outHeight; y++) {
    for (let x = 0; x < outWidth; x++) {
      const [u, v] = isSwapped ? [y, x] : [x, y];
      out[at++] = from[(isFlipped ? height - 1 - v : v) * width + (isMirrored ? width - 1 - u : u)];
    }
  }
  return {width: outWidth, height: outHeight, data: new Uint8ClampedArray(out.buffer)};
}
