'use strict';
// Shows images, takes labels by keys or clicks, and sends each choice at once; goes on only when it is on the disk.

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const broken = new Map(); // image -> why it cannot be opened
let state; // what the server says: names, given labels, classes, choices
let done = new Map(); // image -> {label, kind} of this person
let shown = []; // images on the screen, one or a grid
let selected = new Set(); // those of the grid that the next label is for
let chosen = new Set(); // labels of the image on the screen, where there may be several
let isGrid = query.has('grid'), cursor = 0;
let queue = Promise.resolve(); // one step after the other, however fast the keys come

const act = (step) => { queue = queue.then(step).catch((error) => tell(error.message, true)); };
const isOpen = (image) => !done.has(image) && !broken.has(image);
const countLeft = () => state.names.filter((_, image) => isOpen(image)).length;

function tell(text, isProblem = false) {
  $('status').textContent = text;
  $('status').classList.toggle('problem', isProblem);
}

async function ask(path, options) {
  const answer = await fetch(path, options).catch(() => {
    throw new Error('Not saved: the program behind this page does not answer. Start it again and open its new address.');
  });
  if (!answer.ok) throw new Error(`Not saved: ${await answer.text()}`);
  return answer.json();
}

const send = (content) => ask('choices', {
  method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({annotator: state.annotator, ...content}),
});

async function refresh() {
  const classes = state ? state.classes : [];
  state = await ask(`state?annotator=${encodeURIComponent(query.get('name') || '')}`);
  state.classes.push(...classes.filter((name) => !state.classes.includes(name))); // added here, not used yet
  done = new Map(state.choices.map(([image, label, kind]) => [image, {label, kind}]));
}

// Open images from a place on, then those before it.
function listOpen(from, n) {
  const found = [];
  for (let i = 0; i < state.names.length && found.length < n; i++) {
    const image = (from + i) % state.names.length;
    if (isOpen(image)) found.push(image);
  }
  return found;
}

const countCells = () => (innerWidth < 640 ? 12 : 24);
const showFrom = (from) => show(listOpen(from, isGrid ? countCells() : 1));

async function show(images) {
  [shown, selected, cursor] = [images, new Set(images), 0];
  const [first] = images, known = done.get(first) || {label: state.given[first] || ''};
  chosen = new Set(isGrid ? [] : known.label.split('|').filter(Boolean));
  draw();
  const pictures = [...$('view').querySelectorAll('img')]; // keys wait until they can be seen
  await Promise.all(pictures.map((picture) => picture.complete || new Promise((go) => { picture.onload = picture.onerror = go; })));
  const failed = images.filter((_, i) => !pictures[i].naturalWidth);
  for (const image of failed) await checkBroken(image);
  const rest = images.filter((image) => !broken.has(image));
  if (failed.length) return rest.length ? show(rest) : showFrom(images.at(-1) + 1);
  for (const image of listOpen((images.at(-1) ?? 0) + 1, isGrid ? countCells() : 2)) new Image().src = urlOf(image);
}

const urlOf = (image) => `image/${image}/${isGrid ? 'small' : 'large'}`;

function draw() {
  const view = $('view'), first = shown[0], choice = done.get(first);
  view.classList.toggle('grid', isGrid && shown.length > 0);
  view.replaceChildren(...(shown.length ? shown.map(isGrid ? makeCell : makeImage) : ['All images are labeled.']));
  const given = state.given[first] ? ` · label so far: ${state.given[first]}` : '';
  const word = choice ? ` · your choice: ${choice.label || choice.kind}` : '';
  $('caption').textContent = isGrid || !shown.length ? '' : `${state.names[first]}${given}${word}`;
  drawPanel();
}

function makeImage(image) {
  const picture = new Image();
  picture.alt = state.names[image];
  picture.src = urlOf(image);
  return picture;
}

function makeCell(image, i) {
  const cell = document.createElement('button');
  cell.setAttribute('aria-pressed', selected.has(image));
  cell.title = state.names[image];
  cell.append(makeImage(image));
  if (state.given[image]) cell.appendChild(document.createElement('span')).textContent = state.given[image];
  cell.onclick = () => { cursor = i; toggle(selected, image); cell.setAttribute('aria-pressed', selected.has(image)); drawPanel(); };
  return cell;
}

async function checkBroken(image) {
  const answer = await fetch(urlOf(image)).catch(() => null);
  if (answer?.status !== 422) throw new Error('The program behind this page does not answer. Start it again and open its new address.');
  broken.set(image, await answer.text());
}

function toggle(set, value) { if (!set.delete(value)) set.add(value); }

const typed = () => $('filter').value.trim().normalize(); // a letter may be typed in two ways

function listMatches() {
  const words = typed().toLowerCase();
  return state.classes.filter((name) => name.toLowerCase().includes(words));
}

function drawPanel() {
  const n = state.names.length - broken.size, nDone = n - countLeft(), counts = Object.create(null); // a class may be called constructor
  for (const {label} of done.values()) for (const name of label.split('|')) counts[name] = (counts[name] || 0) + 1;
  $('progress').max = Math.max(n, 1);
  $('progress').value = nDone;
  $('count').textContent = `${nDone} of ${n} labeled`;
  const others = Object.entries(state.people).filter(([name]) => name !== state.annotator);
  const notes = others.map(([name, number]) => `${name}: ${number}`);
  if (broken.size) notes.push(`${broken.size} cannot be opened`);
  if (state.n_torn) notes.push(`${state.n_torn} lines of the file were cut off`);
  $('notes').textContent = notes.join(' · ');
  $('notes').title = [...broken].map(([image, why]) => `${state.names[image]}: ${why}`).join('\n');
  const words = typed(), matches = listMatches();
  const buttons = matches.map((name, i) => {
    const button = document.createElement('button');
    const [key, label, number] = ['kbd', 'b', 'small'].map((tag) => button.appendChild(document.createElement(tag)));
    [key.textContent, label.textContent, number.textContent] = [words && !i ? '⏎' : (i < 9 ? i + 1 : ''), name, counts[name] || ''];
    button.setAttribute('aria-pressed', chosen.has(name));
    button.onclick = () => act(() => choose(name));
    return button;
  });
  if (words && !state.classes.includes(words)) {
    const add = document.createElement('button');
    add.append(Object.assign(document.createElement('kbd'), {textContent: matches.length ? '' : '⏎'}), ` Add the class “${words}”`);
    add.onclick = () => act(() => choose(words));
    buttons.push(add);
  }
  $('classes').replaceChildren(...buttons);
  const isKeeping = !state.several && shown.some((image) => state.given[image]);
  $('enter').hidden = !(state.several || isKeeping) || !shown.length;
  $('enter').lastElementChild.textContent = state.several ? 'Save these labels' : 'Keep the label so far';
  $('grid').lastElementChild.textContent = isGrid ? 'One image' : 'Look-alikes';
  $('undo').disabled = !state.actions.length;
  $('all').hidden = !isGrid;
  $('back').hidden = isGrid;
  const what = isGrid ? `Click or Space: leave images out. The label is for ${selected.size} of ${shown.length}.` : '';
  $('help').textContent = what || 'Every choice is saved at once. Keys work after a click into this page.';
}

async function save(rows) {
  if (!rows.length) throw new Error(shown.length ? 'Select at least one image.' : 'No image is left.');
  const {time} = await send({choices: rows});
  for (const [image, label, kind] of rows) done.set(image, {label, kind});
  state.actions.push([time, rows.map(([image]) => image)]);
  tell('');
  const left = shown.filter(isOpen);
  return left.length ? show(left) : showFrom(shown.at(-1) + 1);
}

const saveAll = (label, kind) => save(shown.filter((image) => selected.has(image)).map((image) => [image, label, kind]));

async function choose(name) {
  if (name.includes('|')) throw new Error('A class cannot hold “|”. Add each class by itself.');
  $('filter').value = '';
  if (document.activeElement === $('filter')) $('filter').blur();
  if (!state.classes.includes(name)) state.classes.push(name);
  if (!state.several) return saveAll(name, 'label');
  toggle(chosen, name);
  return drawPanel();
}

const steps = {
  none: () => saveAll('', 'none'),
  unclear: () => saveAll('', 'unclear'),
  skip: () => showFrom((shown.at(-1) ?? -1) + 1),
  back: () => {
    const before = state.names.map((_, i) => ((shown[0] ?? 0) + state.names.length - 1 - i) % state.names.length);
    return isGrid ? null : show(before.filter((image) => !broken.has(image)).slice(0, 1));
  },
  grid: () => { isGrid = !isGrid; return showFrom(shown[0] ?? 0); },
  all: () => { selected = new Set(selected.size ? [] : shown); draw(); },
  async undo() {
    if (!state.actions.length) throw new Error('There is nothing to undo.');
    const [time, images] = state.actions.at(-1);
    await send({undo: time});
    await refresh();
    if (images.length > 1) isGrid = true;
    await show(isGrid ? images : images.slice(0, 1));
    tell(`Undone: ${images.length === 1 ? 'one choice' : `${images.length} choices`}.`);
  },
  enter() {
    if (!state.several) return save(shown.filter((image) => selected.has(image) && state.given[image]).map((image) => [image, state.given[image], 'label']));
    if (!chosen.size) throw new Error('Choose labels first, or None of these.');
    return saveAll([...chosen].sort().join('|'), 'labels');
  },
};
const KEYS = {0: 'none', u: 'unclear', z: 'undo', Backspace: 'undo', s: 'skip', g: 'grid', a: 'all', Enter: 'enter'};
for (const id of Object.keys(steps)) $(id).onclick = () => act(steps[id]);

function move(by) {
  if (!isGrid) return act(by > 0 ? steps.skip : steps.back);
  cursor = Math.min(Math.max(cursor + by, 0), shown.length - 1);
  return $('view').children[cursor]?.focus();
}

document.addEventListener('keydown', (event) => {
  const {key} = event, isTyping = event.target.tagName === 'INPUT';
  if (event.target === $('filter') && key === 'Enter') act(() => (typed() ? choose(listMatches()[0] ?? typed()) : $('filter').blur()));
  if (isTyping && (key === 'Escape' || (key === 'Enter' && event.target === $('name')))) event.target.blur();
  if (key === 'Escape') { $('filter').value = ''; drawPanel(); }
  if (isTyping || event.altKey || (event.ctrlKey || event.metaKey) && key !== 'z' || event.repeat && !key.startsWith('Arrow')) return;
  const isOnCell = event.target.closest?.('#view.grid button');
  if (key === '/') $('filter').focus();
  else if (key === 'ArrowRight' || key === 'ArrowLeft') move(key === 'ArrowRight' ? 1 : -1);
  else if (/^[1-9]$/.test(key)) { act(() => { const name = listMatches()[key - 1]; return name ? choose(name) : tell(`There is no class ${key}.`, true); }); }
  else if (key in KEYS && !(key === 'Enter' && event.target.tagName === 'BUTTON' && !isOnCell)) act(steps[KEYS[key]]);
  else return; // also Space, which presses the button of an image
  event.preventDefault();
});
$('filter').oninput = drawPanel;
$('name').onchange = () => { query.set('name', $('name').value.trim()); location.search = query; };
addEventListener('focus', () => act(async () => { await refresh(); drawPanel(); })); // what another window saved

act(async () => {
  await refresh();
  $('name').value = state.annotator;
  if (!state.classes.length) tell('Press / and type the name of a class.');
  return showFrom(0);
});
