'use strict';
// Every text of the data enters the page as text, never as HTML.
const data = JSON.parse(document.getElementById('data').textContent);
const $ = (id) => document.getElementById(id);
const N = data.names.length;
const LEAVE_OUT = 'leave out', CARD_WIDTH = 176, CARD_HEIGHT = 282, GAP = 10, MAX_MATRIX = 20;
const COLORS = ['#3b7dd8', '#e08a2c', '#4d9e58', '#c9504b', '#8f6bbf', '#8d6648', '#d878b4', '#7f7f7f', '#a8a52f', '#35a9b5'];
const className = (code) => data.classes[code];
const predicted = (i) => data.answers[i][0];
const isWrong = (i) => predicted(i) !== data.labels[i];
const splits = [...new Set(data.splits)].sort();
const ORDERS = {
  'most suspect first': () => 0, // as the data come
  'least certain first': (a, b) => data.probabilities[a][0] - data.probabilities[b][0],
  'label': (a, b) => data.labels[a] - data.labels[b],
  'predicted': (a, b) => predicted(a) - predicted(b),
  'name': (a, b) => (data.names[a] < data.names[b] ? -1 : 1),
};
const MAP_COLORS = {
  'by label': [(i) => data.labels[i], data.classes],
  'by prediction': [predicted, data.classes],
  'by split': [(i) => splits.indexOf(data.splits[i]), splits],
  'by error': [(i) => (isWrong(i) ? 3 : 0), ['agrees', , , 'contradicted']],
};
const STORE = `corrections ${data.id}`;
let marks = new Map(), shown = [], area = null, drag = null, opened = 0, isKept = true;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element && name !== 'list') element[name] = value; else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const fill = (select, pairs) => select.replaceChildren(...pairs.map(([value, text]) => make('option', {value, textContent: text})));
const describe = (i) => `${data.names[i]}: labeled ${className(data.labels[i])}, predicted ${className(predicted(i))}`;
const percent = (share) => `${Math.round(100 * share)}\u00a0%`;

// Corrections: kept in the browser's store for this page, and saved as a file.
try {
  marks = new Map(JSON.parse(localStorage.getItem(STORE) || '[]'));
} catch (error) {
  isKept = false; // the frame of a notebook may not store anything
}

function mark(i, value) {
  if (value === 'keep') marks.delete(i); else marks.set(i, value);
  try {
    localStorage.setItem(STORE, JSON.stringify([...marks]));
  } catch (error) {
    isKept = false;
  }
  showMarks();
  if ($('only-marked').checked) update(); else drawGrid();
}

function makeCsv() {
  const quote = (text) => `"${text.replaceAll('"', '""')}"`;
  const rows = [...marks].sort((a, b) => a[0] - b[0]).map(([i, value]) =>
    [data.names[i], value === LEAVE_OUT ? '' : className(value), className(data.labels[i])].map(quote).join(','));
  return ['image,label,old_label', ...rows, ''].join('\n');
}

function showMarks() {
  const where = isKept ? '' : '; this frame may block saving: copy the text';
  $('marked').textContent = marks.size ? `${marks.size} marked${where}` : '';
  $('save').disabled = !marks.size;
  $('text').value = makeCsv();
}

function save() {
  const link = make('a', {href: URL.createObjectURL(new Blob([makeCsv()], {type: 'text/csv'})), download: 'corrections.csv'});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function makeChoice(i) {
  const others = data.classes.map((name, code) => code).filter((code) => code !== data.labels[i] && code !== data.suggested[i]);
  const select = make('select', {ariaLabel: `Right label of ${data.names[i]}`});
  const codes = data.classes.length > 1 ? [data.suggested[i], ...others] : [];
  fill(select, [['keep', 'Wrong label?'], ...codes.map((code) => [code, `it is ${className(code)}`]), [LEAVE_OUT, 'none of these: leave out']]);
  select.value = marks.has(i) ? marks.get(i) : 'keep';
  select.onchange = () => mark(i, /^\d+$/.test(select.value) ? Number(select.value) : select.value);
  return select;
}

// The grid: only the rows near the window are in the page.
const cards = new Map();

function makeCard(i) {
  const image = make('img', {src: data.thumbnails[i], alt: describe(i)});
  const answer = make('p', {className: isWrong(i) ? 'answer is-wrong' : 'answer', title: `predicted ${className(predicted(i))}`},
    make('span', {className: 'line', textContent: `→ ${className(predicted(i))}`}), percent(data.probabilities[i][0]));
  return make('div', {className: 'card'},
    make('button', {type: 'button', className: 'picture', title: 'Open', onclick: () => openDetails(i)}, image),
    make('p', {className: 'line', textContent: `labeled ${className(data.labels[i])}`, title: className(data.labels[i])}),
    answer,
    make('p', {className: 'line soft', textContent: data.names[i], title: `${data.names[i]} (${data.splits[i]})`}), makeChoice(i));
}

function drawGrid() {
  const grid = $('grid'), width = grid.clientWidth, nColumns = Math.max(1, Math.floor((width + GAP) / (CARD_WIDTH + GAP)));
  const step = (width + GAP) / nColumns, rowHeight = CARD_HEIGHT + GAP, top = -grid.getBoundingClientRect().top;
  grid.style.height = `${Math.ceil(shown.length / nColumns) * rowHeight}px`;
  const from = Math.max(0, Math.floor(top / rowHeight) - 2) * nColumns;
  const to = Math.min(shown.length, Math.ceil((top + innerHeight) / rowHeight + 2) * nColumns);
  const wanted = new Map(shown.slice(from, to).map((i, k) => [i, from + k]));
  for (const [i, card] of cards) {
    if (!wanted.has(i)) { card.remove(); cards.delete(i); }
  }
  for (const [i, k] of wanted) {
    if (!cards.has(i)) cards.set(i, makeCard(i));
    const card = cards.get(i), value = String(marks.has(i) ? marks.get(i) : 'keep');
    Object.assign(card.style, {width: `${step - GAP}px`, height: `${CARD_HEIGHT}px`, left: `${(k % nColumns) * step}px`, top: `${Math.floor(k / nColumns) * rowHeight}px`});
    card.classList.toggle('is-marked', value !== 'keep');
    card.lastChild.value = value;
  }
  const missing = [...wanted.keys()].map((i) => cards.get(i));
  if (missing.some((card, k) => card !== grid.children[k])) grid.append(...missing); // in the order of reading
  if (!shown.length) grid.replaceChildren(make('p', {className: 'empty', textContent: 'No image fits these filters.'}));
  else grid.querySelector('.empty')?.remove();
}

// Filters.
function update() {
  const chosen = (id) => $(id).value === 'all' ? null : Number($(id).value);
  const [split, label, answer, text] = [$('split').value, chosen('label'), chosen('predicted'), $('name').value.toLowerCase()];
  const isInSplit = (i) => split === 'all' || data.splits[i] === split;
  const isInArea = ([x, y]) => x >= area[0] && x <= area[2] && y >= area[1] && y <= area[3];
  shown = [...Array(N).keys()].filter((i) => isInSplit(i) && (label === null || data.labels[i] === label) &&
    (answer === null || predicted(i) === answer) && (!$('wrong').checked || isWrong(i)) &&
    (!$('only-marked').checked || marks.has(i)) && data.names[i].toLowerCase().includes(text) && (!area || isInArea(data.map[i])));
  shown.sort(ORDERS[$('order').value]);
  const nWrong = shown.filter(isWrong).length;
  $('summary').textContent = `${shown.length} of ${N} images; the prediction contradicts the label of ${nWrong}. ${data.note}`;
  drawConfusion([...Array(N).keys()].filter(isInSplit), label, answer);
  drawGrid();
  drawMap();
}

function drawConfusion(rows, label, answer) {
  const counts = new Map(), totals = new Map(), K = data.classes.length;
  for (const i of rows) {
    const key = data.labels[i] * K + predicted(i);
    counts.set(key, (counts.get(key) || 0) + 1);
    totals.set(data.labels[i], (totals.get(data.labels[i]) || 0) + 1);
  }
  const makeButton = (key, n, text) => {
    const [a, b] = [Math.floor(key / K), key % K], isOn = a === label && b === answer;
    return make('button', {type: 'button', textContent: text ?? n, title: `${n} labeled ${className(a)}, predicted ${className(b)}`, ariaPressed: String(isOn),
      onclick: () => { [$('label').value, $('predicted').value] = isOn ? ['all', 'all'] : [a, b]; update(); }});
  };
  if (K > MAX_MATRIX) {
    const pairs = [...counts].filter(([key]) => Math.floor(key / K) !== key % K).sort((a, b) => b[1] - a[1]).slice(0, 60);
    $('confusion').replaceChildren(...pairs.map(([key, n]) => {
      const button = makeButton(key, n, `${className(Math.floor(key / K))} → ${className(key % K)}`);
      button.className = 'pair';
      button.append(make('b', {textContent: n}));
      return button;
    }));
    return;
  }
  const head = make('tr', {}, make('th', {textContent: 'label'}), ...data.classes.map((name) => make('th', {scope: 'col', textContent: name, title: name})));
  const body = data.classes.map((name, a) => make('tr', {}, make('th', {scope: 'row', textContent: name, title: name}), ...data.classes.map((_, b) => {
    const n = counts.get(a * K + b) || 0, cell = make('td');
    if (n) {
      cell.append(makeButton(a * K + b, n));
      const share = Math.round(12 + 50 * n / totals.get(a));
      cell.firstChild.style.background = `color-mix(in srgb, var(${a === b ? '--accent' : '--problem'}) ${share}%, transparent)`;
    }
    return cell;
  })));
  $('confusion').replaceChildren(make('table', {}, make('caption', {textContent: 'Rows: label. Columns: prediction. Click a cell to see its images.'}), make('thead', {}, head), make('tbody', {}, ...body)));
}

// The map.
function drawMap() {
  const canvas = $('map'), [width, height] = [canvas.clientWidth, canvas.clientHeight], scale = devicePixelRatio || 1;
  [canvas.width, canvas.height] = [width * scale, height * scale];
  const pen = canvas.getContext('2d'), [colorOf, names] = MAP_COLORS[$('color').value], isShown = new Set(shown);
  pen.scale(scale, scale);
  for (const isFront of [false, true]) {
    for (let i = 0; i < N; i++) {
      if (isShown.has(i) !== isFront) continue;
      const [x, y] = place(data.map[i], width, height);
      pen.globalAlpha = isFront ? 0.85 : 0.12;
      pen.fillStyle = COLORS[colorOf(i) % COLORS.length];
      pen.beginPath();
      pen.arc(x, y, N > 1500 ? 2 : 3.2, 0, 7);
      pen.fill();
    }
  }
  if (drag) { pen.globalAlpha = 1; pen.strokeRect(drag[0], drag[1], drag[2] - drag[0], drag[3] - drag[1]); }
  canvas.setAttribute('aria-label', `Map of ${N} images, colored ${$('color').value}; the grid lists the same images.`);
  const dot = (code) => { // the palette repeats beyond ten names
    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg'), circle = document.createElementNS(svg.namespaceURI, 'circle');
    for (const [name, value] of Object.entries({cx: '50%', cy: '50%', r: '45%', fill: COLORS[code % COLORS.length]})) circle.setAttribute(name, value);
    svg.append(circle);
    svg.setAttribute('aria-hidden', 'true');
    return svg;
  };
  const items = Object.entries(names).slice(0, COLORS.length).map(([code, name]) => make('span', {}, dot(Number(code)), name));
  $('legend').replaceChildren(...items, names.length > COLORS.length ? `and ${names.length - COLORS.length} more: colors repeat` : '');
}

const place = ([x, y], width, height) => [8 + x * (width - 16), 8 + y * (height - 16)];
const unplace = (x, y, canvas) => [(x - 8) / (canvas.clientWidth - 16), (y - 8) / (canvas.clientHeight - 16)];

function findPoint(x, y) {
  const {clientWidth, clientHeight} = $('map');
  const far = (i) => Math.hypot(...place(data.map[i], clientWidth, clientHeight).map((value, k) => value - [x, y][k]));
  const best = shown.reduce((a, b) => (a === null || far(b) < far(a) ? b : a), null);
  return best !== null && far(best) < 12 ? best : null;
}

$('map').onpointerdown = (event) => { drag = [event.offsetX, event.offsetY, event.offsetX, event.offsetY]; $('map').setPointerCapture(event.pointerId); };
$('map').onpointermove = (event) => {
  const i = findPoint(event.offsetX, event.offsetY);
  $('map').title = i === null ? '' : describe(i);
  if (drag) { [drag[2], drag[3]] = [event.offsetX, event.offsetY]; drawMap(); }
};
$('map').onpointerup = (event) => {
  if (!drag) return; // it was pressed elsewhere
  const [x0, y0, x1, y1] = drag, i = findPoint(x1, y1);
  drag = null;
  if (Math.hypot(x1 - x0, y1 - y0) > 6) {
    area = [...unplace(Math.min(x0, x1), Math.min(y0, y1), $('map')), ...unplace(Math.max(x0, x1), Math.max(y0, y1), $('map'))];
  } else if (i !== null) {
    openDetails(i);
  } else {
    area = null;
  }
  update();
};

// One image, with those most like it.
function openDetails(i) {
  opened = i;
  const bars = data.answers[i].map((code, k) => make('div', {className: 'bar'}, make('progress', {max: 1, value: data.probabilities[i][k]}),
    make('span', {textContent: `${className(code)} ${percent(data.probabilities[i][k])}`})));
  const similar = data.similar[i].map(([j, value]) => make('button', {type: 'button', title: data.names[j], onclick: () => openDetails(j)},
    make('img', {src: data.thumbnails[j], alt: describe(j)}),
    make('span', {className: data.labels[j] === data.labels[i] ? '' : 'is-wrong', textContent: `${className(data.labels[j])}, ${value.toFixed(2)}`})));
  const next = make('button', {type: 'button', textContent: 'Next →', onclick: () => step(1)});
  const step = (by) => { const k = shown.indexOf(opened) + by; if (shown[k] !== undefined) openDetails(shown[k]); };
  $('details').replaceChildren(
    make('h2', {id: 'details-name', textContent: data.names[i]}),
    make('div', {className: 'two'},
      make('div', {}, make('img', {src: data.thumbnails[i], alt: describe(i)})),
      make('div', {}, make('p', {textContent: `Labeled ${className(data.labels[i])} (${data.splits[i]}), suspect number ${i + 1} of ${N}. Predicted by a model that did not learn it:`}),
        ...bars, make('p', {}, makeChoice(i)))),
    make('p', {className: 'soft', textContent: 'Most similar images to learn from: their label, and how alike they are (1: the same).'}),
    make('div', {className: 'strip'}, ...similar),
    make('div', {className: 'buttons'},
      make('button', {type: 'button', textContent: '← Previous', onclick: () => step(-1)}),
      next,
      make('button', {type: 'button', className: 'main', textContent: 'Close', onclick: () => $('details').close()})));
  $('details').onkeydown = (event) => {
    if (event.target.tagName !== 'SELECT' && /^Arrow(Left|Right)$/.test(event.key)) step(event.key === 'ArrowLeft' ? -1 : 1);
  };
  if (!$('details').open) $('details').showModal();
  next.focus({preventScroll: true}); // so that the arrow keys work
  $('details').scrollTop = 0; // a small window shows the image, not what is below it
}

const classPairs = [['all', 'all'], ...data.classes.map((name, code) => [code, name])];
fill($('order'), Object.keys(ORDERS).map((name) => [name, name]));
fill($('split'), [['all', 'all'], ...splits.map((name) => [name, name])]);
fill($('label'), classPairs);
fill($('predicted'), classPairs);
fill($('color'), Object.keys(MAP_COLORS).map((name) => [name, name]));
$('filters').oninput = update;
$('filters').onsubmit = (event) => event.preventDefault();
$('color').oninput = drawMap;
$('show-all').onclick = () => { $('filters').reset(); area = null; update(); };
$('save').onclick = save;
addEventListener('scroll', () => requestAnimationFrame(drawGrid), {passive: true});
addEventListener('resize', () => { drawGrid(); drawMap(); });
showMarks();
update();
