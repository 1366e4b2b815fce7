'use strict';
// From a file to the bytes that the network takes, with the arithmetic of Python's side (Pillow): equal, not similar.

const DECODE_MARGIN = 1.6; // a large JPEG is opened at a reduced size of at least this many times the wanted pixels
const PADDING = 128;
const STRIP_PX = 1 << 20; // pixels read at a time: phones limit the size of a canvas

// Opens a file, a frame of a video or a canvas; gives {width, height, readRows(top, nRows) → RGBA}.
async function openPixels(source, targetPx, valueRange) {
  if (source instanceof Blob) {
    const bytes = new Uint8Array(await source.arrayBuffer());
    if (bytes[0] === 0xff && bytes[1] === 0xd8) {
      const image = decodeJpeg(bytes, Math.floor(targetPx * DECODE_MARGIN));
      if (image) return makeReader(image);
    }
    if (bytes[0] === 0x89 && bytes[1] === 0x50 && bytes[24] === 16) {
      const image = await decodeDeepPng(bytes, valueRange);
      if (image) return makeReader(image);
      if (valueRange !== 65535) throw new Error('Of 16-bit images this page opens only grey PNG files as the model needs.');
    }
  }
  const how = {colorSpaceConversion: 'none', premultiplyAlpha: 'none', imageOrientation: 'from-image'};
  const bitmap = await createImageBitmap(source, how);
  const {width, height} = bitmap;
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = Math.min(height, Math.max(1, Math.floor(STRIP_PX / width)));
  const context = canvas.getContext('2d', {willReadFrequently: true});
  const readRows = (top, nRows) => {
    context.clearRect(0, 0, width, canvas.height);
    context.drawImage(bitmap, 0, -top);
    return context.getImageData(0, 0, width, nRows).data;
  };
  return {width, height, nRowsAtOnce: canvas.height, readRows, close: () => bitmap.close()};
}

async function inflate(blob, format) {
  return new Uint8Array(await new Response(blob.stream().pipeThrough(new DecompressionStream(format))).arrayBuffer());
}

// Opens a grey PNG file with 16 bits, of which browsers keep 8; null for other kinds. The value valueRange becomes white.
async function decodeDeepPng(bytes, valueRange) {
  const view = new DataView(bytes.buffer);
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  if (bytes[25] || bytes[28]) return null; // colors, or interlaced
  const parts = [];
  for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (kind === 'tRNS') return null;
    if (kind === 'IDAT') parts.push(bytes.subarray(at + 8, at + 8 + view.getUint32(at)));
  }
  const [raw, step] = [await inflate(new Blob(parts), 'deflate'), 2 * width + 1];
  if (raw.length < step * height) throw new Error('The file is cut short.');
  const data = new Uint8ClampedArray(4 * width * height).fill(255);
  const scale = Math.fround(255 / valueRange); // in 32 bits, as in Python
  for (let y = 0, out = 0; y < height; y++) {
    const filter = raw[y * step];
    for (let i = 1; i < step; i++) {
      const at = y * step + i;
      const [left, up, corner] = [i > 2 ? raw[at - 2] : 0, y ? raw[at - step] : 0, i > 2 && y ? raw[at - step - 2] : 0];
      raw[at] += [0, left, up, left + up >> 1, predict(left, up, corner)][filter];
      if (i % 2) continue;
      data.fill(roundHalfEven(Math.fround((raw[at - 1] << 8 | raw[at]) * scale)), out, out + 3);
      out += 4;
    }
  }
  return {width, height, data};
}

function predict(left, up, corner) {
  const [a, b, c] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

function makeReader({width, height, data}) {
  const readRows = (top, nRows) => data.subarray(4 * width * top, 4 * width * (top + nRows));
  return {width, height, nRowsAtOnce: Math.max(1, Math.floor(STRIP_PX / width)), readRows, close: () => {}};
}

// Gives size × size × 3 bytes; fit is "squash", "crop" or "pad". For isTallFirst see resize.
function makeSquare(image, size, fit, isTallFirst) {
  const {width, height} = image;
  if (fit === 'squash') return resize(image, size, size, [0, 0, width, height], isTallFirst);
  if (fit === 'crop') {
    const side = Math.min(width, height);
    const [left, top] = [(width - side) / 2, (height - side) / 2];
    return resize(image, size, size, [left, top, left + side, top + side], isTallFirst);
  }
  const scale = size / Math.max(width, height);
  const [w, h] = [Math.max(1, roundHalfEven(width * scale)), Math.max(1, roundHalfEven(height * scale))];
  const resized = resize(image, w, h, [0, 0, width, height], isTallFirst);
  const padded = new Uint8Array(3 * size * size).fill(PADDING);
  const [left, top] = [Math.floor((size - w) / 2), Math.floor((size - h) / 2)];
  for (let y = 0; y < h; y++) padded.set(resized.subarray(3 * w * y, 3 * w * (y + 1)), 3 * (size * (top + y) + left));
  return padded;
}

function roundHalfEven(value) {
  const rounded = Math.round(value);
  return value % 1 === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

// Resizes a box of an image as Pillow does: along the rows, then along the columns, both rounded to bytes.
// From version 13 on Pillow does tall images the other way round, which changes a few values by one: isTallFirst.
function resize(image, outWidth, outHeight, [left, top, right, bottom], isTallFirst) {
  const {width, height, nRowsAtOnce} = image;
  const across = makeWeights(width, left, right, outWidth);
  const down = makeWeights(height, top, bottom, outHeight);
  const isTall = isTallFirst && height - outHeight > 2 * Math.max(0, width - outWidth);
  const first = down[0].first;
  const nUsed = down[outHeight - 1].first + down[outHeight - 1].weights.length - first;
  for (const line of down) line.first -= first;
  const between = new Uint8Array(isTall ? 4 * width * nUsed : 3 * outWidth * nUsed);
  for (let y = 0; y < nUsed; y += nRowsAtOnce) {
    const nRows = Math.min(nRowsAtOnce, nUsed - y);
    const rows = putOnWhite(image.readRows(first + y, nRows));
    if (isTall) between.set(rows, 4 * width * y);
    else for (let row = 0; row < nRows; row++) sumUp(rows, 4 * width * row, 4, across, between, 3 * outWidth * (y + row), 3);
  }
  const out = new Uint8Array(3 * outWidth * outHeight);
  if (isTall) {
    const low = new Uint8Array(3 * width * outHeight);
    for (let x = 0; x < width; x++) sumUp(between, 4 * x, 4 * width, down, low, 3 * x, 3 * width);
    for (let y = 0; y < outHeight; y++) sumUp(low, 3 * width * y, 3, across, out, 3 * outWidth * y, 3);
  } else {
    for (let x = 0; x < outWidth; x++) sumUp(between, 3 * x, 3 * outWidth, down, out, 3 * x, 3 * outWidth);
  }
  return out;
}

// The weights of the pixels that each output pixel is made of, as whole numbers of 2 ** 22.
function makeWeights(nIn, begin, end, nOut) {
  const scale = (end - begin) / nOut;
  const support = Math.max(1, scale);
  return Array.from({length: nOut}, (_, i) => {
    const center = begin + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(nIn, Math.trunc(center + support + 0.5));
    const parts = [];
    let total = 0;
    for (let k = first; k < last; k++) {
      const part = Math.max(0, 1 - Math.abs((k - center + 0.5) * (1 / support)));
      parts.push(part);
      total += part;
    }
    return {first, weights: Int32Array.from(parts, (part) => Math.trunc(0.5 + part / total * (1 << 22)))};
  });
}

function sumUp(from, start, step, lines, out, outStart, outStep) {
  for (const {first, weights} of lines) {
    let [red, green, blue, at] = [1 << 21, 1 << 21, 1 << 21, start + first * step];
    for (let k = 0; k < weights.length; k++, at += step) {
      red += from[at] * weights[k];
      green += from[at + 1] * weights[k];
      blue += from[at + 2] * weights[k];
    }
    out[outStart] = red >> 22; // the weights add up to 2 ** 22, so no sum leaves the bytes
    out[outStart + 1] = green >> 22;
    out[outStart + 2] = blue >> 22;
    outStart += outStep;
  }
}

function putOnWhite(rgba) {
  for (let at = 0; at < rgba.length; at += 4) {
    const alpha = rgba[at + 3];
    if (alpha === 255) continue;
    for (let i = at; i < at + 3; i++) {
      const sum = rgba[i] * alpha + 255 * (255 - alpha) + 128;
      rgba[i] = (sum >> 8) + sum >> 8;
    }
  }
  return rgba;
}
