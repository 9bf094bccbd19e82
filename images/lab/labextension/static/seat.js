// Tells the participant when his time ends and what the operator has to say, and shows a page at the end instead of
// leaving him with a dead connection. All of it comes from the hub, which he cannot write to.
//
// Written by hand in the form that JupyterLab loads (a webpack container): it needs nothing of JupyterLab but the
// application object that every plugin is given.
(() => {
  const POLL = 20; // seconds

  const STYLE = `
    #wod-notices { position: fixed; z-index: 15000; bottom: 34px; right: 28px;
      width: min(36rem, calc(100% - 3rem)); display: flex; flex-direction: column; gap: 6px;
      font: 14px/1.45 system-ui, sans-serif; }
    .wod-notice { display: flex; gap: 12px; align-items: flex-start; padding: 10px 10px 10px 14px; color: #33260a;
      background: #fff4d6; border: 1px solid #d9a520; border-left-width: 6px; border-radius: 4px;
      box-shadow: 0 2px 10px rgb(0 0 0 / 25%); }
    .wod-notice.wod-soon { color: #4a0d0d; background: #ffe4e1; border-color: #c62828; }
    .wod-notice p { flex: 1; margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
    .wod-notice a { color: inherit; font-weight: 600; text-decoration: underline; }
    .wod-notice button { border: 0; background: none; color: inherit; font: inherit; font-weight: 600;
      cursor: pointer; padding: 0 6px; text-decoration: underline; }
    #wod-end { position: fixed; z-index: 20000; inset: 0; display: grid; place-items: center; padding: 24px;
      background: #f5f6f8; color: #1f2933; font: 17px/1.6 system-ui, sans-serif; overflow: auto; }
    #wod-end div { max-width: 34rem; background: #fff; border-radius: 8px; padding: 32px 40px;
      box-shadow: 0 4px 24px rgb(0 0 0 / 12%); }
    #wod-end h1 { margin: 0 0 12px; font-size: 26px; line-height: 1.25; }
    #wod-end p { margin: 0 0 12px; white-space: pre-wrap; overflow-wrap: anywhere; }
    #wod-end a { color: #0b5cad; font-weight: 600; }`;

  // What comes from elsewhere is only ever text of an element, never markup.
  const element = (name, text = '', properties = {}) =>
    Object.assign(document.createElement(name), { textContent: text }, properties);

  const minutes = seconds => {
    const number = Math.max(1, Math.ceil(seconds / 60));
    return number === 1 ? 'a minute' : `${number} minutes`;
  };

  const timeOfDay = seconds =>
    new Date(Date.now() + seconds * 1000).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });

  class Notices {
    constructor() {
      this.shown = new Map();
      this.dismissed = new Set();
      document.head.append(element('style', STYLE));
      this.list = document.body.appendChild(element('div', '', { id: 'wod-notices' }));
    }

    // Show exactly these, by key, but not again what was dismissed and has not gone away since.
    show(wanted) {
      for (const [key, node] of this.shown) {
        if (!wanted.has(key)) {
          node.remove();
          this.shown.delete(key);
        }
      }
      for (const key of this.dismissed) {
        if (!wanted.has(key)) {
          this.dismissed.delete(key);
        }
      }
      for (const [key, { text, soon, links = [] }] of wanted) {
        if (this.dismissed.has(key)) {
          continue;
        }
        if (!this.shown.has(key)) {
          const node = element('div', '', { className: soon ? 'wod-notice wod-soon' : 'wod-notice' });
          node.setAttribute('role', 'alert');
          const close = element('button', 'OK', { type: 'button' });
          close.onclick = () => {
            this.dismissed.add(key);
            node.remove();
            this.shown.delete(key);
          };
          node.append(element('p'), ...links.map(([label, href]) => element('a', label, { href, download: '' })), close);
          this.list.append(node);
          this.shown.set(key, node);
        }
        const line = this.shown.get(key).firstChild;
        if (line.textContent !== text) {
          line.textContent = text;
        }
      }
    }
  }

  // A page over everything, JupyterLab's own complaints about the connection included.
  function end(title, lines, link, address) {
    document.getElementById('wod-end')?.remove();
    const page = element('div', '', { id: 'wod-end' });
    page.setAttribute('role', 'alertdialog');
    page.setAttribute('aria-label', title);
    const box = element('div');
    box.append(element('h1', title), ...lines.map(line => element('p', line)));
    box.append(element('a', link, { href: address }));
    page.append(box);
    document.body.append(page);
  }

  // What is being made to take home, or has been since this page was opened.
  function takeHome(made, user) {
    if (made.state === 'queued' || made.state === 'running') {
      return { text: 'Your workshop is being made into documents …' };
    }
    if (made.state === 'done') {
      const file = form => `/user/${user}/files/Take-home/${encodeURIComponent(made.workshop)}.${form}?download=1`;
      const links = ['pdf', 'docx', 'zip'].map(form => [form.toUpperCase(), file(form)]);
      return { text: 'Your workshop, to take home (also in the folder Take-home):', links };
    }
    return { text: `Your workshop could not be made into documents. ${made.reason || ''}` };
  }

  async function watch(hub, user, commands) {
    const notices = new Notices();
    let wake = () => undefined;
    let ordered = false; // something to take home, from this page
    commands.addCommand('wod-seat:take-home', {
      label: 'Take Home (PDF, Word, Zip)',
      caption: 'Make documents of all notebooks of this workshop, to download and keep',
      execute: async () => {
        await commands.execute('docmanager:save-all').catch(() => undefined);
        await fetch(`${hub}seat`, { method: 'POST', credentials: 'same-origin', headers: { 'X-WoD-Seat': '1' } });
        ordered = true;
        wake();
      }
    });
    let left; // seconds until the end, as the hub last said
    let heard = 0; // when that was
    for (;;) {
      let answer;
      try {
        answer = await fetch(`${hub}seat`, { cache: 'no-store', credentials: 'same-origin' });
      } catch {
        // The hub restarts, or the network is away: JupyterLab itself says so if the server is concerned.
      }
      if (answer?.status === 401 || answer?.status === 410) {
        const over = left !== undefined && left - (Date.now() - heard) / 1000 < 2 * POLL;
        end(
          over ? 'Your time in this workshop is over' : 'Your session has ended',
          [
            over
              ? 'Thank you for taking part. Your seat, with all that was in it, has been given back.'
              : 'You have logged out, or your login has expired, or your seat has been taken back.',
            ...[...notices.shown].filter(([key]) => key.startsWith('notice ')).map(([, node]) => node.firstChild.textContent)
          ],
          over ? 'To the start page' : 'Log in again',
          over ? `${hub}login` : `${hub}login?next=${encodeURIComponent(location.pathname)}`
        );
        return;
      }
      let pause = POLL;
      if (answer?.ok) {
        const seat = await answer.json().catch(() => null);
        if (seat && seat.user === user) {
          left = seat.seconds_left;
          heard = Date.now();
          const wanted = new Map(seat.notices.map(notice => [`notice ${notice.id}`, { text: notice.text }]));
          const stage = seat.warnings.filter(warning => left <= warning * 60).pop();
          if (stage !== undefined) {
            const text =
              `Your time ends in ${minutes(left)}, at ${timeOfDay(left)}. ` +
              'Take home what you want to keep: after that, nothing of this seat is left.';
            wanted.set(`end ${stage}`, { text, soon: stage <= 5 });
          }
          if (ordered && seat.take_home) {
            wanted.set(`home ${seat.take_home.id} ${seat.take_home.state}`, takeHome(seat.take_home, user));
          }
          notices.show(wanted);
          const stopped = document.getElementById('wod-end');
          if (!seat.running && !stopped) {
            end(
              'Your server was stopped',
              ['Your files are as you left them.', ...seat.notices.map(notice => notice.text).slice(-1)],
              'Start it again',
              `${hub}spawn`
            );
          } else if (seat.running) {
            stopped?.remove();
          }
          const waiting = ordered && ['queued', 'running'].includes(seat.take_home?.state);
          pause = waiting ? 1 : Math.min(POLL, Math.max(2, left + 1));
        }
      }
      await new Promise(resume => {
        wake = resume;
        setTimeout(resume, pause * 1000);
      });
    }
  }

  const plugin = {
    id: 'wod-seat:plugin',
    description: 'Tells when the time ends, and what the operator has to say.',
    autoStart: true,
    activate: app => {
      const page = JSON.parse(document.getElementById('jupyter-config-data')?.textContent || '{}');
      // An author's desk has no hub.
      if (page.hubPrefix && page.hubUser) {
        void app.restored.then(() => watch(page.hubPrefix, page.hubUser, app.commands));
      }
    }
  };
  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB['wod-seat'] = { init: () => undefined, get: async () => () => plugin };
})();
