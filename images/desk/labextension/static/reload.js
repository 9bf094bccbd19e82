// Shows open documents anew when their files change, and tells at the foot of the window what is wrong. JupyterLab itself
// looks at an open file only when it saves it, and then asks what to do. The desk's notebooks are read-only previews, so
// the answer is always: what is on disk.
//
// Written by hand in the form that JupyterLab loads (a webpack container): it needs nothing of JupyterLab but the
// application object that every plugin is given.
(() => {
  const POLL = 100; // milliseconds
  const SETTLING = 2000;

  // The renderer writes this page last, after each save: one question tells whether anything can have changed.
  const STATUS_PAGE = 'ERRORS.md';

  const timeOf = (app, path) =>
    app.serviceManager.contents.get(path, { content: false }).then(file => file.last_modified);

  // A cell that runs goes on printing into the notebook that it was started in: wait until it has ended.
  const isBusy = context => context.sessionContext?.session?.kernel?.status === 'busy';

  // Show what is on disk, at the place where the reader is; true if that has to wait.
  async function refresh(app, widget) {
    const context = widget.context;
    if (!context?.isReady || context.isDisposed) {
      return false;
    }
    const onDisk = await timeOf(app, context.path);
    if (context.isDisposed || onDisk === context.contentsModel?.last_modified) {
      return false;
    }
    if (isBusy(context)) {
      return true;
    }
    const page = widget.content;
    const scrolled = page.node.querySelector('.jp-WindowedPanel-outer');
    const top = scrolled?.scrollTop;
    const active = page.activeCellIndex;
    await context.revert();
    if (active !== undefined) {
      page.activeCellIndex = active;
    }
    if (scrolled) {
      scrolled.scrollTop = top;
    }
    return false;
  }

  // Pictures in texts. A browser that has a picture does not ask for it again: one that has changed since this page
  // was opened gets another address. `seen` is the time of change of each picture's file when it was first met.
  const seen = new Map();

  async function refreshPicture(app, image, files, changed) {
    const address = new URL(image.src);
    if (address.origin !== window.location.origin || !address.pathname.startsWith(files)) {
      return;
    }
    const path = decodeURIComponent(address.pathname.slice(files.length));
    if (seen.has(path) && !changed) {
      return;
    }
    const now = await timeOf(app, path);
    if (!seen.has(path)) {
      seen.set(path, now);
    }
    if (now !== (address.searchParams.get('changed') ?? seen.get(path))) {
      address.searchParams.set('changed', now);
      image.src = address.href;
    }
  }

  function refreshPictures(app, changed) {
    const files = new URL('files/', app.serviceManager.serverSettings.baseUrl).pathname;
    for (const image of document.querySelectorAll('.jp-RenderedHTMLCommon img[src]')) {
      refreshPicture(app, image, files, changed).catch(() => undefined);
    }
  }

  // The line at the foot: what the status page says first. A text, whatever the author wrote; a click opens the page.
  function makeLine(app) {
    const line = document.createElement('button');
    line.id = 'wod-desk-status';
    line.title = 'Show what is wrong';
    line.style.cssText =
      'position:fixed;right:16px;bottom:32px;z-index:1000;padding:6px 14px;border:0;border-radius:16px;' +
      'font:600 13px system-ui,sans-serif;color:#fff;cursor:pointer;box-shadow:0 1px 6px rgb(0 0 0/35%)';
    line.onclick = () =>
      app.commands.execute('docmanager:open', { path: STATUS_PAGE, factory: 'Markdown Preview' });
    document.body.append(line);
    return line;
  }

  async function tell(app, line) {
    const page = await app.serviceManager.contents.get(STATUS_PAGE, { content: true, format: 'text', type: 'file' });
    const told = page.content.split('\n', 1)[0].replaceAll('*', '');
    line.textContent = told;
    line.style.background = /: \d+ errors?/.test(told) ? '#b3261e' : /: \d+ warn/.test(told) ? '#8a5a00' : '#1b6e3c';
  }

  async function watch(app) {
    const line = makeLine(app);
    let shown = '';
    let changed = 0;
    for (;;) {
      // Where there is no answer (the desk is gone, a file has just vanished), there is nothing to show.
      const now = await timeOf(app, STATUS_PAGE).catch(() => shown);
      if (now !== shown) {
        const open = Array.from(app.shell.widgets('main'));
        const told = tell(app, line).catch(() => undefined);
        const waiting = await Promise.all(open.map(widget => refresh(app, widget).catch(() => false)));
        await told;
        shown = waiting.includes(true) ? '' : now;
        changed = Date.now();
      }
      // For a moment after a change too: texts are rendered when they come into view.
      refreshPictures(app, Date.now() - changed < SETTLING);
      await new Promise(resume => setTimeout(resume, POLL));
    }
  }

  const plugin = {
    id: 'wod-desk:reload',
    description: 'Shows open documents anew when their files change.',
    autoStart: true,
    activate: app => void app.restored.then(() => watch(app))
  };
  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB['wod-desk'] = { init: () => undefined, get: async () => () => plugin };
})();
