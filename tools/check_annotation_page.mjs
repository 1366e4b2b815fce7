// Labels images on the annotation page in headless Chromium, by keyboard, and prints what it saw as JSON.
// Started by check_annotation_page.py, with one argument: a JSON file that says what to do.
import {createRequire} from 'node:module';
import {spawn} from 'node:child_process';
import {readFileSync} from 'node:fs';
import {createInterface} from 'node:readline';

const job = JSON.parse(readFileSync(process.argv[2]));
const {chromium} = createRequire(`${job.playwright}/`)('playwright-core');
const found = {errors: [], requests: [], texts: {}, widths: {}};
let server;

async function start(command) {
  server = spawn(command[0], command.slice(1), {stdio: ['ignore', 'pipe', 'inherit']});
  for await (const line of createInterface({input: server.stdout})) return JSON.parse(line).url;
  throw new Error('the command ended');
}

const stop = (signal) => new Promise((resolve) => { server.once('exit', resolve); server.kill(signal); });

async function open(url, options = {}) {
  const page = await browser.newPage({viewport: {width: 1280, height: 800}, ...options});
  page.on('request', (request) => found.requests.push(request.url()));
  page.on('console', (message) => { if (message.type() === 'error') found.errors.push(message.text()); });
  page.on('pageerror', (error) => found.errors.push(String(error)));
  await page.goto(url);
  await waitFor(page, '#count', 'labeled');
  return page;
}

const waitFor = (page, selector, text) => page.waitForFunction(
  ([where, words]) => document.querySelector(where)?.textContent.includes(words), [selector, text], {timeout: 60000});

async function press(page, ...keys) { for (const key of keys) await page.keyboard.press(key); }

async function shoot(page, name) {
  for (const colorScheme of ['light', 'dark']) {
    for (const [width, height] of [[390, 844], [800, 700], [1280, 800]]) {
      await page.emulateMedia({colorScheme});
      await page.setViewportSize({width, height});
      await page.waitForFunction(() => [...document.images].every((image) => image.complete));
      await page.screenshot({path: `${job.shots}/${name}_${colorScheme}_${width}.png`});
      found.widths[`${name} ${width}`] = await page.evaluate(() => document.documentElement.scrollWidth);
    }
  }
}

process.on('exit', () => server?.kill('SIGKILL'));
const browser = await chromium.launch({executablePath: job.chromium, args: ['--no-sandbox', '--disable-gpu']});
found.version = browser.version();

// One label per image: 20 images by keyboard, the server killed in between, two undone, the page loaded again.
let page = await open(await start(job.single));
await press(page, '/', 'Enter'); // nothing was typed: no class is meant
await press(page, '/', ...'a|b', 'Enter');
await waitFor(page, '#status', 'by itself');
await press(page, 'Escape');
await press(page, ...job.keys.slice(0, 10));
await waitFor(page, '#count', '10 of');
await stop('SIGKILL');
await press(page, job.keys[10]);
await waitFor(page, '#status', 'Not saved');
found.texts.notSaved = await page.locator('#status').textContent();
await page.close();
found.errors = found.errors.filter((text) => !text.includes('net::ERR')); // of the killed server
let url = await start(job.single);
page = await open(url);
found.texts.afterKill = await page.locator('#count').textContent();
await press(page, ...job.keys.slice(10, 20));
await waitFor(page, '#count', '20 of');
await press(page, 'z', 'z');
await waitFor(page, '#count', '18 of');
await page.reload();
await waitFor(page, '#caption', 'images/18');
found.texts.afterReload = await page.locator('#count').textContent();
await page.screenshot({path: `${job.shots}/one.png`});
found.texts.next = await page.locator('#caption').textContent();

// A second window with another name; then the first one goes on by typing a class.
const other = await open(`${url}?name=Bob`);
await press(other, '0', 'u', '1');
await waitFor(other, '#count', '3 of');
await other.close();
await page.evaluate(() => dispatchEvent(new Event('focus'))); // as after a look at the other window
await press(page, '/', ...'car', 'Enter');
await waitFor(page, '#count', '19 of');
await shoot(page, 'single');
await page.setViewportSize({width: 1280, height: 800});
await press(page, 'g');
await page.waitForSelector('#view.grid');
await press(page, 'ArrowRight', 'Space');
await waitFor(page, '#help', `for ${job.nGrid - 1} of ${job.nGrid}`);
await shoot(page, 'grid');
await page.setViewportSize({width: 1280, height: 800});
await press(page, '2');
await waitFor(page, '#count', `${19 + job.nGrid - 1} of`);
found.texts.notes = await page.locator('#notes').textContent();
await page.close();
await stop('SIGINT');

// Several labels per image, many classes, one of them new.
url = await start(job.several);
page = await open(url);
await press(page, '1', '3', 'Enter');
await waitFor(page, '#count', '1 of');
await press(page, '0');
await waitFor(page, '#count', '2 of');
await press(page, '/', ...'brand new', 'Enter', 'Enter');
await waitFor(page, '#count', '3 of');
await shoot(page, 'several');
await page.close();
await stop('SIGINT');

// Labels so far: the first is kept, the second corrected, the third and fourth kept at once.
page = await open(await start(job.correct));
await press(page, 'Enter');
await waitFor(page, '#count', '1 of');
await press(page, '1');
await waitFor(page, '#count', '2 of');
await press(page, 'g', 'Enter');
await waitFor(page, '#view', 'All images are labeled.');
await shoot(page, 'correct');
await stop('SIGINT');
await browser.close();
console.log(JSON.stringify(found));
