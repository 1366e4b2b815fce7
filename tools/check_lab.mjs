// Opens notebooks in JupyterLab, and prints as JSON whether it takes each for changed.
// Started by check_lab.py, with one argument: JSON that says what to do.
import {createRequire} from 'node:module';

const job = JSON.parse(process.argv[2]);
const {chromium} = createRequire(`${job.playwright}/`)('playwright-core');
const browser = await chromium.launch({executablePath: job.chromium, args: ['--no-sandbox', '--disable-gpu']});

const answers = () => fetch(job.address).then((answer) => answer.ok, () => false);
for (let i = 0; i < 120 && !(await answers()); i++) await new Promise((resolve) => setTimeout(resolve, 1000));

const found = {};
for (const name of job.notebooks) {
  const page = await browser.newPage();
  await page.goto(`${job.address}/tree/${name}?reset`, {timeout: 120000});
  await page.waitForFunction(() => {
    const widget = window.jupyterapp?.shell?.currentWidget;
    const isOpen = widget?.context?.isReady && widget.content?.widgets?.length > 10;
    return isOpen && widget.sessionContext.session?.kernel?.status === 'idle';
  }, null, {timeout: 180000});
  await page.waitForTimeout(3000); // what JupyterLab completes, it has completed by now
  found[name] = await page.evaluate(() => window.jupyterapp.shell.currentWidget.context.model.dirty);
  if (name === job.saved) await page.evaluate(() => window.jupyterapp.shell.currentWidget.context.save());
  await page.close({runBeforeUnload: false});
}
await browser.close();
console.log(JSON.stringify(found));
