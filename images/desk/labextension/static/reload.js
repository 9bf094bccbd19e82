// Shows open documents anew when their files change. JupyterLab itself looks at an open file only when it saves it,
// and then asks what to do. The desk's notebooks are read-only previews, so the answer is always: what is on disk.
//
// Written by hand in the form that JupyterLab loads (a webpack container): it needs nothing of JupyterLab but the
// application object that every plugin is given.
(() => {
  const POLL = 150; // milliseconds

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

  async function watch(app) {
    let seen = '';
    for (;;) {
      // Where there is no answer (the desk is gone, a file has just vanished), there is nothing to show.
      const now = await timeOf(app, STATUS_PAGE).catch(() => seen);
      if (now !== seen) {
        const open = Array.from(app.shell.widgets('main'));
        const waiting = await Promise.all(open.map(widget => refresh(app, widget).catch(() => false)));
        seen = waiting.includes(true) ? '' : now;
      }
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
