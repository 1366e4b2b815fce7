'use strict';
// The page itself: loads the network, takes images from files, the clipboard or a camera, and shows the answer.

const N_SHOWN = 5;
const PAUSE_MS = 100; // between two pictures of a camera, so that the page can be used meanwhile
const CAN_REJECT = 'threshold' in MODEL.unknown;
const byId = (id) => document.getElementById(id);
let [camera, facing, shownUrl, lastJob] = [null, 'environment', '', Promise.resolve()];

async function unpack(text) {
  const packed = atob(text);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  return inflate(new Blob([bytes]), 'gzip');
}

async function loadNetwork() {
  const [code, binary] = await Promise.all(Object.values(RUNTIME.files).map(unpack));
  const ort = await import(URL.createObjectURL(new Blob([code], {type: 'text/javascript'})));
  ort.env.wasm.wasmBinary = binary;
  ort.env.wasm.numThreads = 1; // more would need headers that few servers send
  const session = await ort.InferenceSession.create(await unpack(MODEL.network), {executionProviders: ['wasm']});
  const size = MODEL.im_size_px;
  return async (pixels) => {
    const outputs = await session.run({pixels: new ort.Tensor('uint8', pixels, [1, size, size, 3])});
    return {logits: Array.from(outputs.output.data), score: outputs.unknown_score?.data[0]};
  };
}

const network = loadNetwork();

// Gives the probabilities of a file, or of the picture that a video shows; and whether it belongs to none of the classes.
async function classify(source) {
  const image = await openPixels(source, MODEL.im_size_px, MODEL.value_range);
  const pixels = makeSquare(image, MODEL.im_size_px, MODEL.fit, MODEL.is_tall_first);
  image.close();
  const {logits, score} = await (await network)(pixels);
  if (![...logits, CAN_REJECT ? score : 0].every(Number.isFinite)) throw new Error('The network gave no numbers for this image.');
  return {probabilities: toProbabilities(logits), isUnknown: CAN_REJECT && score > MODEL.unknown.threshold};
}

function toProbabilities(logits) {
  if (MODEL.is_multilabel) return logits.map((logit) => 1 / (1 + Math.exp(-logit)));
  const exponentials = logits.map((logit) => Math.exp(logit - Math.max(...logits)));
  const total = exponentials.reduce((sum, value) => sum + value);
  return exponentials.map((value) => value / total);
}

function say(text, isProblem = false) {
  byId('status').textContent = text;
  byId('status').classList.toggle('problem', isProblem);
}

function formatPercent(value) {
  return value > 0.9995 && value < 1 ? '> 99.9 %' : `${(100 * value).toFixed(1)} %`;
}

function addElement(parent, tag, className, text = '') {
  const element = parent.appendChild(document.createElement(tag));
  element.className = className;
  element.textContent = text;
  return element;
}

function showAnswer({probabilities, isUnknown}) {
  const rows = probabilities.map((value, i) => ({value, name: MODEL.class_names[i], threshold: MODEL.thresholds[i]}));
  rows.sort((a, b) => b.value - a.value);
  const isYes = ({value, threshold}) => !isUnknown && (MODEL.is_multilabel ? value >= threshold : value === rows[0].value);
  const labels = (MODEL.is_multilabel ? rows : rows.slice(0, 1)).filter(isYes).map((row) => row.name);
  const answer = isUnknown ? 'Unknown' : labels.join(', ') || 'None of the labels';
  if (byId('answer').textContent !== answer) byId('answer').textContent = answer; // read aloud only when it changes
  byId('bars').replaceChildren();
  for (const row of rows.slice(0, N_SHOWN)) {
    const item = addElement(byId('bars'), 'li', isYes(row) ? 'yes' : '');
    addElement(item, 'div', 'fill').style.width = `${100 * row.value}%`;
    if (MODEL.is_multilabel) addElement(item, 'div', 'threshold').style.left = `${100 * row.threshold}%`;
    const line = addElement(item, 'div', 'row');
    addElement(line, 'span', 'name', row.name);
    addElement(line, 'span', 'percent', formatPercent(row.value));
  }
  const nMore = rows.length - N_SHOWN;
  byId('note').textContent = [
    isUnknown ? 'The image is unlike those that the model has learned; the bars are what it would guess.' : '',
    nMore > 0 ? `${nMore} more ${nMore > 1 ? 'classes are' : 'class is'} less probable.` : '',
    MODEL.is_multilabel ? 'The mark on a bar is the probability from which on its label is given.' : '',
  ].join(' ').trim();
}

function clearAnswer() {
  for (const id of ['answer', 'bars', 'note']) byId(id).replaceChildren();
}

function showImage(file) {
  URL.revokeObjectURL(shownUrl);
  shownUrl = file ? URL.createObjectURL(file) : '';
  byId('image').src = shownUrl;
  byId('image').alt = file ? file.name || 'pasted image' : '';
  byId('image').hidden = !file;
  byId('hint').hidden = Boolean(camera);
  byId('drop').classList.toggle('filled', Boolean(file || camera));
}

async function takeFiles(files) {
  const file = files[0];
  if (!file) return;
  stopCamera();
  clearAnswer();
  say(`Looking at ${file.name || 'the image'}…`);
  const job = lastJob = lastJob.then(() => new Promise((resolve) => setTimeout(resolve, 30))) // lets the page show it
    .then(() => classify(file))
    .then((answer) => {
      if (job !== lastJob) return; // another file was chosen meanwhile
      showImage(file);
      showAnswer(answer);
      say(files.length > 1 ? `Only the first of ${files.length} files: ${file.name}` : file.name || '');
    }, (error) => {
      showImage(null);
      say(explain(error, file), true);
    });
  await job;
}

function explain(error, file) {
  if (error.name === 'Error') return error.message; // one of this page's own
  console.warn(error);
  const what = file.type.startsWith('image/') ? 'is damaged, or of a kind that this browser cannot open' : 'is not an image';
  return `“${file.name || 'What was pasted'}” ${what}. Try a JPEG, PNG, WebP or GIF file.`;
}

async function startCamera() {
  stopCamera();
  clearAnswer();
  say('Waiting for the camera…');
  try {
    if (!navigator.mediaDevices) throw new DOMException('', 'SecurityError');
    const video = {facingMode: {ideal: facing}, width: {ideal: 1280}};
    camera = await navigator.mediaDevices.getUserMedia({video, audio: false});
  } catch (error) {
    say(explainCamera(error), true);
    return;
  }
  const view = byId('video');
  view.srcObject = camera;
  view.style.transform = facing === 'user' ? 'scaleX(-1)' : ''; // as in a mirror; the network sees the picture itself
  view.hidden = byId('flip').hidden = false;
  byId('camera').textContent = 'Stop the camera';
  showImage(null);
  await view.play();
  say('The camera is on; nothing is recorded.');
  watch(camera);
}

async function watch(stream) {
  while (camera === stream) {
    if (!document.hidden) {
      try {
        const answer = await classify(byId('video'));
        if (camera === stream) showAnswer(answer);
      } catch (error) {
        if (camera === stream) say(error.message, true);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

function stopCamera() {
  if (!camera) return;
  for (const track of camera.getTracks()) track.stop();
  camera = null;
  byId('video').srcObject = null;
  byId('video').hidden = byId('flip').hidden = true;
  byId('camera').textContent = 'Use the camera';
  clearAnswer();
  showImage(null);
  say('');
}

function explainCamera(error) {
  return {
    NotAllowedError: 'The camera was refused. Allow it in the browser’s settings for this page, and try again.',
    NotFoundError: 'No camera was found on this device.',
    NotReadableError: 'Another program uses the camera. Close it, and try again.',
    SecurityError: 'Browsers give the camera to pages on https:// or localhost only. Image files work here as well.',
  }[error.name] || `The camera cannot be used: ${error.message || error.name}.`;
}

function describeModel() {
  const n = MODEL.class_names.length;
  document.title = byId('title').textContent = MODEL.title || 'Image classifier';
  byId('promise').textContent = `Choose an image, and this page says ${MODEL.is_multilabel
    ? `which of ${n} labels fit` : `which of ${n} classes it shows`}. It stays on this device: nothing is sent anywhere.`;
  const facts = [
    [MODEL.is_multilabel ? 'Labels' : 'Classes', MODEL.class_names.join(', ')],
    ...MODEL.scores.map(({name, value, low, high, n: nImages}) => [
      name, `${value.toFixed(3)} (95 % interval ${low.toFixed(3)} to ${high.toFixed(3)}, ${nImages} images)`]),
    ['Trained on', MODEL.n_train ? `${MODEL.n_train} images` : ''],
    ['Network', `${MODEL.backbone}, images of ${MODEL.im_size_px} × ${MODEL.im_size_px} pixels`],
    ['License', MODEL.license],
    ['Runtime', `onnxruntime-web ${RUNTIME.version}, in this browser`],
    ['Unknown images', CAN_REJECT
      ? `are rejected; so are about ${formatPercent(MODEL.unknown.expected)} of known ones`
      : 'are not recognized: one that shows none of the classes can get a label all the same'],
    ['Limits', 'Answers are as good as the scores only for images like those that these were measured on.'],
  ];
  for (const [name, text] of facts.filter((fact) => fact[1])) {
    addElement(byId('facts'), 'dt', '', name);
    addElement(byId('facts'), 'dd', '', text);
  }
}

function listen() {
  byId('file').addEventListener('change', ({target}) => takeFiles([...target.files]).then(() => { target.value = ''; }));
  byId('camera').addEventListener('click', () => (camera ? stopCamera() : startCamera()));
  byId('flip').addEventListener('click', () => {
    facing = facing === 'user' ? 'environment' : 'user';
    startCamera();
  });
  for (const name of ['dragenter', 'dragover', 'dragleave', 'drop']) {
    document.addEventListener(name, (event) => {
      event.preventDefault(); // or the browser would leave this page and open the file
      byId('drop').classList.toggle('over', name === 'dragenter' || name === 'dragover');
    });
  }
  document.addEventListener('drop', (event) => takeFiles([...event.dataTransfer.files]));
  document.addEventListener('paste', (event) => takeFiles([...event.clipboardData.files]));
}

describeModel();
listen();
network.then(() => {
  byId('file').disabled = byId('camera').disabled = false;
  say('');
}, (error) => say(`The model cannot be loaded in this browser: ${error.message}`, true));
