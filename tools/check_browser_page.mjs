// Opens exported pages in headless Chromium, asks them about images, and prints what they answered as JSON.
// Started by check_browser_page.py, with one argument: a JSON file that says what to do.
import {createRequire} from 'node:module';
import {readFileSync} from 'node:fs';
import {pathToFileURL} from 'node:url';

const job = JSON.parse(readFileSync(process.argv[2]));
const {chromium} = createRequire(`${job.playwright}/`)('playwright-core');
const ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'];
const FAKE_CAMERA = ['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream'];
const found = {answers: {}, requests: [], errors: [], camera: {}, messages: {}, widths: {}};

const launch = (extra) => chromium.launch({executablePath: job.chromium, args: [...ARGUMENTS, ...extra]});

async function open(browser, url, options = {}) {
  const page = await browser.newPage(options);
  page.on('request', (request) => found.requests.push(request.url()));
  page.on('console', (message) => { if (message.type() === 'error') found.errors.push(message.text()); });
  page.on('pageerror', (error) => found.errors.push(String(error)));
  await page.goto(url);
  await page.waitForFunction(() => !document.getElementById('file').disabled, null, {timeout: 300000});
  return page;
}

async function ask(page, path) {
  return page.evaluate(async (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const start = performance.now();
    try {
      return {...await classify(new Blob([bytes])), ms: performance.now() - start};
    } catch (error) {
      return {error: `${error.name}: ${error.message}`};
    }
  }, readFileSync(path).toString('base64'));
}

const browser = await launch(FAKE_CAMERA);
found.version = browser.version();
for (const [name, {url, images}] of Object.entries(job.pages)) {
  const page = await open(browser, url);
  found.answers[name] = {};
  for (const image of images) found.answers[name][image] = await ask(page, image);
  await page.close();
}

const [first] = Object.values(job.pages);
const fromDisk = await open(browser, pathToFileURL(`${first.folder}/index.html`).href);
found.fromDisk = await ask(fromDisk, first.images[0]);
await fromDisk.close();

for (const [name, {url}] of Object.entries(job.pages)) {
  const page = await open(browser, url);
  const give = async (path, done) => {
    await page.locator('#file').setInputFiles(path);
    await page.waitForFunction((selector) => document.querySelector(selector), done, {timeout: 60000});
  };
  const shoot = async (what) => {
    for (const colorScheme of ['light', 'dark']) {
      for (const [width, height] of [[390, 844], [1280, 800]]) {
        await page.emulateMedia({colorScheme});
        await page.setViewportSize({width, height});
        await page.screenshot({path: `${job.shots}/${name}_${what}_${colorScheme}_${width}.png`, fullPage: true});
        found.widths[`${name}, ${what}, ${width}`] = await page.evaluate(() => document.documentElement.scrollWidth);
      }
    }
  };
  await shoot('empty');
  await give(job.shown, '#answer:not(:empty)');
  await page.locator('summary').click();
  await shoot('answer');
  await page.locator('summary').click();
  await give(job.noImage, '#status.problem');
  found.messages.noImage = await page.locator('#status').textContent();
  await shoot('no_image');
  if (name === job.withDetector) {
    await give(job.unknown, '#answer:not(:empty)');
    found.messages.unknown = await page.locator('#answer').textContent();
    await shoot('unknown');
  }
  await page.close();
}

const page = await open(browser, first.url, {viewport: {width: 1280, height: 800}});
for (const key of ['Tab', 'Tab']) await page.keyboard.press(key); // the file, then the camera: all by keyboard
await page.keyboard.press('Enter');
await page.waitForFunction(() => document.getElementById('answer').textContent, null, {timeout: 60000});
found.camera.answer = await page.locator('#answer').textContent();
await page.screenshot({path: `${job.shots}/camera.png`});
await page.keyboard.press('Enter');
found.camera.isStopped = await page.evaluate(() => document.getElementById('video').hidden && !camera);
await browser.close();

const refusing = await launch(FAKE_CAMERA.slice(0, 1)); // nobody is there to allow it
const refused = await open(refusing, first.url);
await refused.locator('#camera').click();
await refused.waitForFunction(() => document.querySelector('#status.problem'), null, {timeout: 60000});
found.camera.refused = await refused.locator('#status').textContent();
await refusing.close();
console.log(JSON.stringify(found));
