// Opens pages of errors in headless Chromium, works with them as a person does, and prints what it found as JSON.
// Started by check_error_browser.py, with one argument: a JSON file that says what to do.
import {createRequire} from 'node:module';
import {readFileSync} from 'node:fs';
import {pathToFileURL} from 'node:url';

const job = JSON.parse(readFileSync(process.argv[2]));
const {chromium} = createRequire(`${job.playwright}/`)('playwright-core');
const browser = await chromium.launch({executablePath: job.chromium, args: ['--no-sandbox', '--disable-gpu']});
const context = await browser.newContext({viewport: {width: 1280, height: 860}, acceptDownloads: true});
const found = {version: browser.version(), requests: [], errors: [], widths: {}};

async function open(path) {
  const page = await context.newPage();
  page.on('request', (request) => found.requests.push(request.url()));
  page.on('console', (message) => { if (message.type() === 'error') found.errors.push(message.text()); });
  page.on('pageerror', (error) => found.errors.push(String(error)));
  page.on('dialog', (dialog) => { found.errors.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  const start = Date.now();
  await page.goto(pathToFileURL(path).href);
  await page.waitForSelector('.card');
  found.loadMs = Date.now() - start;
  return page;
}

const listShown = (page) => page.evaluate(() => shown.map((i) => data.names[i]));
const listCards = (page) => page.locator('#grid .card img').evaluateAll((images) => images.map((image) => [image.alt, image.naturalWidth]));

// A small page whose names are as awkward as names can be.
const small = await open(job.small);

const cell = small.locator(`#confusion tbody tr:nth-child(${job.cell[0] + 1}) td:nth-of-type(${job.cell[1] + 1}) button`);
await cell.click();
found.cell = await listShown(small);
found.cards = await listCards(small);
await small.locator('#show-all').click();

const choices = small.locator('.card select');
await choices.nth(0).selectOption({index: 1}); // what the model suggests
await choices.nth(1).selectOption({label: 'none of these: leave out'});
await small.locator('.card .picture').nth(2).focus();
await small.keyboard.press('Enter'); // the third by keyboard, in its details
await small.locator('dialog[open]').waitFor();
await small.keyboard.press('ArrowRight');
await small.keyboard.press('ArrowLeft');
found.similar = await small.locator('.strip img').count();
await small.locator('dialog select').selectOption({index: 2});
await small.keyboard.press('Escape');
await small.reload();
await small.waitForSelector('.card');
found.kept = await small.locator('.card.is-marked').count();
const [download] = await Promise.all([small.waitForEvent('download'), small.locator('#save').click()]);
await download.saveAs(job.csv);
found.saved = download.suggestedFilename();

await small.locator('#map').scrollIntoViewIfNeeded();
const box = await small.locator('#map').boundingBox();
await small.mouse.move(box.x + 6, box.y + 6); // the corners are round
await small.mouse.down();
await small.mouse.move(box.x + box.width / 2, box.y + box.height - 6);
await small.mouse.up();
found.area = (await listShown(small)).sort();
const listLeftOf = (shift) => small.evaluate((by) => data.names.filter((name, i) => place(data.map[i], $('map').clientWidth, 1)[0] < $('map').clientWidth / 2 + by), shift);
[found.inArea, found.perhapsInArea] = [await listLeftOf(-4), await listLeftOf(4)]; // the border of the canvas, rounding
await small.locator('#show-all').click();
await small.locator('#name').fill('😀');
found.named = (await listShown(small)).length;
await small.close();

// Pictures, in both schemes and three widths.
for (const [scheme, width, height] of [['light', 1280, 860], ['dark', 1280, 860], ['light', 800, 1000], ['dark', 800, 1000], ['light', 390, 844]]) {
  const page = await open(job.demo);
  await page.emulateMedia({colorScheme: scheme});
  await page.setViewportSize({width, height});
  await page.waitForTimeout(200);
  await page.screenshot({path: `${job.shots}/${scheme}_${width}.jpg`, type: 'jpeg', quality: 82});
  found.widths[width] = await page.evaluate(() => document.documentElement.scrollWidth);
  await page.locator('.picture').first().click();
  await page.screenshot({path: `${job.shots}/${scheme}_${width}_details.jpg`, type: 'jpeg', quality: 82});
  await page.close();
}

// A page of thousands: how long a frame takes while all of it passes, and a click on a cell.
const large = await open(job.large);
found.largeLoadMs = found.loadMs;
Object.assign(found, await large.evaluate(async () => {
  const frames = [], frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  let last = performance.now();
  for (let k = 0; k <= 200; k++) {
    scrollTo(0, k / 200 * document.documentElement.scrollHeight);
    await frame();
    await frame();
    frames.push((performance.now() - last) / 2);
    last = performance.now();
  }
  frames.sort((a, b) => a - b);
  const nodes = document.querySelectorAll('*').length, start = performance.now();
  document.querySelector('#confusion button').click();
  await frame();
  return {frameMs: frames[100], slowFrameMs: frames[190], nodes, clickMs: performance.now() - start, reached: shown.length};
}));
await browser.close();
console.log(JSON.stringify(found));
