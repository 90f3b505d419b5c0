/* The page at /try: asks, shows the events of a turn as they come, and everything that its terminal tells.
 *
 * Three parts: the wire (FrameParser, TurnReader), which knows no page; TurnRun, which keeps one turn's connection until there is a terminal; and TurnView,
 * which shows. Invariants: text is appended once per sequence number, in order, or replaced by the canonical answer; whatever the server sends is shown
 * as text, never as markup; every wait, retry and buffer has a limit below. */

const LIMITS = {
  frameChars: 8 * 1024 * 1024, // the longest frame that is held
  tries: 8, // connections in a row that bring no event, for a turn that is acknowledged
  triesBeforeAck: 3,
  pauseMs: 400, // before the second try; doubles
  maxPauseMs: 8_000,
  headersMs: 35_000, // until a response begins
  silenceMs: 35_000, // where the server has not told its heartbeat
  retryAfterMs: 3_600_000, // the longest wait that a Retry-After can impose on the button
  turns: 20, // turns that a tab remembers
  keptChars: 200_000, // text of a running turn that a tab remembers; a longer one is replayed from its start
  saveMs: 250,
};
const BASE = new URL('..', import.meta.url); // where the service begins, also behind a path of a proxy
const STORE = 'lastword.try';
const KEY = 'lastword.try.key';

/* --- the wire ------------------------------------------------------------------------------------------------------------------- */

/** The stream cannot be followed from here; the turn may. */
export class StreamBroken extends Error {}

/** The server answered with a status that is no stream. `passing` says that trying again may help. */
export class Refused extends Error {
  constructor(status, problem, retryAfterMs) {
    super(problem.detail || problem.title || `HTTP ${status}`);
    Object.assign(this, { status, problem, retryAfterMs, passing: status === 429 || status >= 500 });
  }
}

/** Bytes, split anywhere, to frames. Lines end with LF, CR or CRLF; comments are reported, unknown fields ignored. */
export class FrameParser {
  #decoder = new TextDecoder('utf-8');
  #buffer = '';
  #skipLf = false;
  #event = '';
  #data = [];
  #size = 0;
  #id = null;

  feed(bytes) {
    const buffer = this.#buffer + this.#decoder.decode(bytes, { stream: true });
    const frames = [];
    let at = 0;
    let cr = buffer.indexOf('\r');
    while (at < buffer.length) {
      if (this.#skipLf) {
        this.#skipLf = false;
        if (buffer[at] === '\n') {
          at += 1;
          continue;
        }
      }
      if (cr >= 0 && cr < at) cr = buffer.indexOf('\r', at);
      const lf = buffer.indexOf('\n', at);
      const end = cr >= 0 && (lf < 0 || cr < lf) ? cr : lf;
      if (end < 0) break;
      const frame = this.#line(buffer.slice(at, end));
      if (frame) frames.push(frame);
      this.#skipLf = end === cr;
      at = end + 1;
    }
    this.#buffer = buffer.slice(at);
    if (this.#buffer.length + this.#size > LIMITS.frameChars) throw new StreamBroken('An event is too long.');
    return frames;
  }

  #line(line) {
    if (line === '') {
      const frame = this.#data.length ? { event: this.#event || 'message', data: this.#data.join('\n'), id: this.#id } : null;
      this.#event = '';
      this.#data = [];
      this.#size = 0;
      this.#id = null;
      return frame;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return { comment: line.slice(1).trim() };
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (field === 'event') this.#event = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
    else if (field === 'data') {
      this.#data.push(value);
      this.#size += value.length;
    }
    return null;
  }
}

/** Frames to events of one turn, over as many connections as it takes: each sequence number once, none left out. */
export class TurnReader {
  constructor(turnId = null, seq = 0) {
    this.turnId = turnId;
    this.seq = seq;
  }

  /** The frame's event; null for one that was seen before. A gap raises, and leaves the cursor where it was. */
  take(frame) {
    let event;
    try {
      event = JSON.parse(frame.data);
    } catch {
      throw new StreamBroken('An event could not be read.');
    }
    const sound = event && typeof event.turnId === 'string' && Number.isInteger(event.seq) && event.seq > 0 && event.type === frame.event;
    if (!sound || (frame.id !== null && frame.id !== `${event.turnId}.${event.seq}`)) throw new StreamBroken('An event contradicts itself.');
    if (this.turnId !== null && event.turnId !== this.turnId) throw new StreamBroken('An event of another turn came.');
    if (event.seq <= this.seq) return null;
    if (event.seq !== this.seq + 1) throw new StreamBroken(`Event ${event.seq} came after event ${this.seq}.`);
    this.turnId = event.turnId;
    this.seq = event.seq;
    return event;
  }
}

/** The delay that a Retry-After header asks for, in milliseconds; 0 where there is none. */
export function retryAfter(header, now = Date.now()) {
  if (!header) return 0;
  const ms = /^\d+$/.test(header.trim()) ? Number(header) * 1000 : Date.parse(header) - now;
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), LIMITS.retryAfterMs) : 0;
}

async function refusalOf(response) {
  let problem = {};
  try {
    const body = await response.json();
    if (body && typeof body === 'object') problem = body;
  } catch {
    // no problem document: the status has to say it all
  }
  return new Refused(response.status, problem, retryAfter(response.headers.get('retry-after')));
}

function headers(more = {}) {
  const key = read(KEY);
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function call(method, path) {
  const response = await fetch(new URL(path, BASE), { method, headers: headers(), cache: 'no-store', signal: AbortSignal.timeout(LIMITS.headersMs) });
  if (!response.ok) throw await refusalOf(response);
  return response.json();
}

/* --- what the tab remembers ----------------------------------------------------------------------------------------------------- */

function read(name) {
  try {
    return sessionStorage.getItem(name) ?? '';
  } catch {
    return '';
  }
}

function write(name, value) {
  try {
    if (value) sessionStorage.setItem(name, value);
    else sessionStorage.removeItem(name);
  } catch {
    // the tab may keep nothing, or has no room: then a reload begins anew
  }
}

function remembered() {
  try {
    const found = JSON.parse(read(STORE));
    if (found && Array.isArray(found.turns)) return found;
  } catch {
    // nothing yet, or nothing that can be read
  }
  return { conversationId: null, turns: [] };
}

/* --- a turn's connection --------------------------------------------------------------------------------------------------------- */

const sleep = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });

/** Follows one turn to its terminal, over dropped connections. `turn` is what the tab remembers of it. */
class TurnRun {
  constructor(turn, view, page) {
    Object.assign(this, { turn, view, page });
    this.reader = new TurnReader(turn.turnId, turn.seq);
    this.drops = turn.turnId === null ? 0 : 1;
    this.wake = new AbortController();
    this.stopping = false;
    this.over = false;
  }

  async run() {
    let tries = 0;
    for (;;) {
      const before = this.reader.seq;
      let cause;
      let floorMs = 0;
      try {
        if (await this.#connect()) return this.#end();
        cause = 'The connection ended before the answer did.';
      } catch (error) {
        if (error instanceof Refused) {
          if (!error.passing || this.turn.turnId === null) return this.#refuse(error);
          floorMs = error.retryAfterMs;
        }
        cause = error instanceof Refused || error instanceof StreamBroken ? error.message : 'The connection was lost.';
      }
      if (this.over) return undefined;
      tries = this.reader.seq > before ? 1 : tries + 1;
      if (this.reader.seq > 0) this.drops += 1;
      if (tries > (this.turn.turnId === null ? LIMITS.triesBeforeAck : LIMITS.tries)) return this.#giveUp(cause);
      const pauseMs = Math.min(LIMITS.maxPauseMs, Math.max(floorMs, LIMITS.pauseMs * 2 ** (tries - 1)));
      this.view.waiting(cause, pauseMs, tries, () => this.wake.abort());
      this.wake = new AbortController();
      await sleep(pauseMs, this.wake.signal);
      if (this.over) return undefined;
    }
  }

  /** Leaves the turn as it is. */
  leave() {
    this.over = true;
    this.wake.abort();
    this.connection?.abort();
  }

  /** One connection; true once there is nothing more to come. */
  async #connect() {
    const connection = new AbortController();
    this.connection = connection;
    let timer = setTimeout(() => connection.abort(), LIMITS.headersMs);
    try {
      const response = await this.#open(connection.signal);
      if (response === null) return true;
      const bytes = response.body.getReader();
      const parser = new FrameParser();
      this.view.connected(this.turn.turnId !== null);
      for (;;) {
        clearTimeout(timer);
        timer = setTimeout(() => connection.abort(), this.#silenceMs());
        const { value, done } = await bytes.read();
        if (done) return false;
        this.view.beat(false);
        for (const frame of parser.feed(value)) {
          if (frame.comment !== undefined) this.view.beat(true);
          else {
            const event = this.reader.take(frame);
            if (event !== null && this.#take(event)) return true;
          }
        }
      }
    } finally {
      clearTimeout(timer);
      connection.abort();
    }
  }

  /** The stream, asked for or resumed; null where the terminal was found without one. */
  async #open(signal) {
    const { turn } = this;
    const options = { cache: 'no-store', signal };
    const accept = { Accept: 'text/event-stream' };
    const response =
      turn.turnId === null
        ? await fetch(new URL('v1/turns', BASE), {
            ...options,
            method: 'POST',
            body: turn.body,
            headers: headers({ ...accept, 'Content-Type': 'application/json', 'Idempotency-Key': turn.key }),
          })
        : await fetch(new URL(`v1/turns/${encodeURIComponent(turn.turnId)}/events`, BASE), {
            ...options,
            headers: headers(turn.seq ? { ...accept, 'Last-Event-ID': `${turn.turnId}.${turn.seq}` } : accept),
          });
    if (turn.turnId !== null && (response.status === 204 || response.status === 410)) {
      await this.#snapshot();
      return null;
    }
    if (turn.turnId !== null && response.status === 409) {
      this.#rewind();
      throw new StreamBroken('The service knows less of this turn than this page; it is read again from its start.');
    }
    if (response.status !== 200 || !response.headers.get('content-type')?.startsWith('text/event-stream')) throw await refusalOf(response);
    return response;
  }

  /** The terminal from the turn's snapshot: its events are gone, or there are none behind the cursor. */
  async #snapshot() {
    const { terminal } = await call('GET', `v1/turns/${encodeURIComponent(this.turn.turnId)}`);
    if (!terminal) throw new StreamBroken('The events of this turn are gone, and it has no end yet.');
    this.inParts = true; // there is no whole stream to compare the answer with
    this.#take(terminal);
  }

  #rewind() {
    Object.assign(this.turn, { seq: 0, text: '', chunks: 0 });
    this.reader = new TurnReader(this.turn.turnId);
    this.view.rewind();
  }

  /** Applies an event; true for a terminal. */
  #take(event) {
    const { turn } = this;
    Object.assign(turn, { turnId: event.turnId, seq: event.seq });
    if (event.type === 'ack') {
      turn.ack = event;
      this.view.acknowledged(event);
      if (this.stopping) this.#cancel();
    } else if (event.type === 'chunk' && typeof event.text === 'string') {
      turn.text += event.text;
      turn.chunks += 1;
      this.view.append(event.text);
    } else if (event.type === 'done' || event.type === 'error') {
      this.terminal = event;
      return true;
    } // any other type is an extension: its place in the order counts, and nothing else
    this.page.save();
    return false;
  }

  #silenceMs() {
    return this.turn.ack?.heartbeatMs ? this.turn.ack.heartbeatMs * 2 + 5_000 : LIMITS.silenceMs;
  }

  stop() {
    this.stopping = true;
    this.view.stopping();
    if (this.turn.turnId !== null) this.#cancel();
  }

  async #cancel() {
    try {
      await call('POST', `v1/turns/${encodeURIComponent(this.turn.turnId)}/cancel`);
    } catch (error) {
      if (this.over || this.terminal) return;
      this.stopping = false;
      this.view.notice('warn', 'The turn could not be stopped.', error instanceof Refused ? error.message : 'The service was not reached.');
      this.page.changed();
    }
  }

  #end() {
    if (this.over) return;
    this.over = true;
    const { turn } = this;
    turn.state = 'ended';
    turn.drops = this.drops;
    this.view.ended(this.terminal, this.inParts ? null : { text: turn.text, chunks: turn.chunks, drops: this.drops });
    turn.text = '';
    this.page.ended(this.terminal);
  }

  #refuse(refused) {
    if (this.over) return;
    this.over = true;
    if (this.turn.turnId === null) this.turn.state = 'refused';
    this.view.refused(refused, () => this.page.resume(this.turn));
    this.page.refused(refused, this.turn);
  }

  #giveUp(cause) {
    this.over = true;
    this.view.lost(cause, this.turn.turnId !== null, () => this.page.resume(this.turn));
    this.page.ended(null);
  }
}

/* --- words ------------------------------------------------------------------------------------------------------------------------ */

const STATUS = {
  success: ['good', 'Answered in full', ''],
  degraded: ['warn', 'Answered in full, by a cheaper model', 'The model tier that the route chose failed before any text; a cheaper one answered.'],
  fallback: ['warn', 'Safe answer', 'No model could answer, so this is the answer that the route keeps for that case.'],
  truncated: ['warn part', 'Cut short', 'A limit ended the answer before its own end.'],
  refused: ['bad', 'The model declined to answer', ''],
  cancelled: ['off', 'Stopped', ''],
  interrupted: ['bad part', 'The answer breaks off', 'What was shown is kept, and nothing is asked again behind it.'],
};
const REASON = {
  provider_error: 'the model provider failed',
  provider_overloaded: 'the model provider was overloaded',
  provider_truncated: "the provider's stream ended too early",
  first_token_timeout: 'the model did not begin in time',
  stall_timeout: 'the model fell silent',
  deadline: "the turn's time was up",
  client_cancelled: 'it was stopped by you',
  client_disconnected: 'nobody was connected any more',
  server_shutdown: 'the service was shutting down',
  server_crash: 'the service ended unexpectedly',
  output_limit: 'the answer reached its limit of length',
  refusal: 'the model declined',
  internal_error: 'something in the service broke',
};
const TOOL = {
  results: ['good', 'with results'],
  empty: ['', 'found nothing'],
  error: ['bad', 'failed'],
  timeout: ['bad', 'ran out of time'],
};
const ORIGIN = { retrieval: 'retrieval', tool: 'tool', payload: 'cited by the model', answer: 'named in the answer' };
const REFUSAL = {
  400: 'The question cannot be used as it is',
  401: 'The service wants an API key',
  403: 'This key may not do that',
  404: 'The service does not know that, or it belongs to another key',
  406: 'This page and the service speak different versions',
  413: 'The question is too long',
  422: 'The question was sent twice, differently',
  429: 'Too many questions',
  503: 'The service takes no question right now',
};
const STAGES = [
  ['authMs', 'Auth', 'prepare'],
  ['precheckMs', 'Precheck', 'prepare'],
  ['conversationContextMs', 'Conversation context', 'prepare'],
  ['routeMs', 'Route', 'prepare'],
  ['retrievalMs', 'Retrieval', 'retrieval'],
  ['agentSetupMs', 'Agent setup', 'prepare'],
  ['modelWaitMs', 'Model wait', 'model'],
  ['streamMs', 'Stream', 'streaming'],
  ['postProcessMs', 'Post-process', 'finish'],
  ['finalizeMs', 'Finalize', 'finish'],
];

const known = (table, word) => (Object.hasOwn(table, word) ? table[word] : undefined);
const ms = (value) => (value < 1000 ? `${value} ms` : `${(value / 1000).toFixed(value < 10_000 ? 2 : 1)} s`);
const count = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;
const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}.` : '');

/* --- what is shown ---------------------------------------------------------------------------------------------------------------- */

const $ = (id) => document.getElementById(id);

/** An element with properties and children; children are nodes or text. */
function el(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== ''));
  return element;
}

const chip = (text, kind = '') => el('span', { className: `chip ${kind}` }, text);

function announce(text) {
  $('announcer').textContent = text;
}

function safeUrl(text) {
  try {
    const url = new URL(text);
    return url.protocol === 'https:' || url.protocol === 'http:' ? url : null;
  } catch {
    return null;
  }
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = el('textarea', { value: text, className: 'unseen' }); // where the page is not served securely there is no clipboard
    document.body.append(area);
    area.select();
    const copied = document.execCommand('copy');
    area.remove();
    return copied;
  }
}

function copyButton(text, what) {
  const button = el('button', { type: 'button', ariaLabel: `Copy ${what}` }, 'Copy');
  button.addEventListener('click', async () => {
    button.textContent = (await copy(text)) ? 'Copied' : 'No luck';
    announce(`${what} ${button.textContent === 'Copied' ? 'copied' : 'could not be copied'}`);
    setTimeout(() => (button.textContent = 'Copy'), 1500);
  });
  return button;
}

function idRow(label, value, what) {
  return el('div', {}, el('dt', {}, label), el('dd', {}, el('span', { className: 'id', title: value }, value), copyButton(value, what)));
}

const section = (title, ...children) => el('section', {}, el('h3', {}, title), ...children);

/** The timings: the two marks, a bar of the stages and of the time that belongs to none, and the same as a table. */
function timingsOf(timings) {
  const total = timings.totalMs ?? 0;
  const parts = STAGES.filter(([key]) => Number.isFinite(timings[key])).map(([key, label, kind]) => ({ label, kind, value: timings[key] }));
  for (const key of Object.keys(timings)) {
    const own = key === 'totalMs' || key === 'firstTokenMs' || STAGES.some(([name]) => name === key);
    if (!own && key.endsWith('Ms') && Number.isFinite(timings[key])) parts.push({ label: key.slice(0, -2), kind: 'finish', value: timings[key] });
  }
  const rest = total - parts.reduce((sum, part) => sum + part.value, 0);
  parts.push({ label: 'Unaccounted', kind: 'rest', value: rest });
  const share = (value) => (total > 0 ? (100 * Math.max(0, value)) / total : 0);
  const bar = el('div', { className: 'bar', role: 'img', ariaLabel: `Stages of ${ms(total)}; the table below has the same in figures` });
  for (const part of parts.filter(({ value }) => value > 0)) {
    const piece = el('span', { className: part.kind, title: `${part.label}: ${ms(part.value)}` });
    piece.style.flex = `${share(part.value)} 1 0`;
    bar.append(piece);
  }
  const first = timings.firstTokenMs;
  if (Number.isFinite(first)) {
    const mark = el('i', { title: `First text at ${ms(first)}: nothing is retried after it` });
    mark.style.left = `${Math.min(100, share(first))}%`;
    bar.append(mark);
  }
  const row = ({ label, kind, value }) =>
    el(
      'tr',
      {},
      el('th', { scope: 'row' }, el('span', { className: `swatch ${kind}`, ariaHidden: 'true' }), label),
      el('td', {}, ms(value)),
      el('td', {}, total > 0 ? `${share(value).toFixed(share(value) < 10 ? 1 : 0)} %` : ''),
    );
  const sum = el('tr', { className: 'sum' }, el('th', { scope: 'row' }, 'Total'), el('td', {}, ms(total)), el('td', {}, ''));
  return section(
    'Where the time went',
    el(
      'dl',
      { className: 'marks' },
      el('div', {}, el('dt', {}, 'First text'), el('dd', {}, Number.isFinite(first) ? ms(first) : 'none')),
      el('div', {}, el('dt', {}, 'Total'), el('dd', {}, ms(total))),
    ),
    bar,
    el('table', {}, el('tbody', {}, ...parts.map(row), sum)),
  );
}

function toolsOf(metadata) {
  const calls = metadata.toolCalls ?? [];
  const items = calls.map((one) => {
    const [kind, words] = known(TOOL, one.outcome) ?? ['', one.outcome];
    return el('li', {}, el('code', {}, one.name), el('span', { className: 'ms' }, ms(one.durationMs)), el('small', {}, chip(words, kind)));
  });
  const used = metadata.toolsUsed?.length ?? 0;
  const useful = metadata.toolsWithResults?.length ?? 0;
  return calls.length
    ? section(`Tools: ${used} used, ${useful} with results`, el('ul', { className: 'list' }, ...items))
    : section('Tools', el('p', { className: 'list' }, 'None was used.'));
}

function attemptsOf(metadata) {
  const attempts = metadata.attempts ?? [];
  if (!attempts.length) return null;
  const items = attempts.map((one, at) => {
    const ok = one.outcome === 'ok';
    const last = at === attempts.length - 1;
    const why = ok ? 'went well' : (known(REASON, one.outcome) ?? one.outcome);
    const then = ok || last ? '' : attempts[at + 1].modelTier === one.modelTier ? '; tried again' : '; a cheaper tier was tried';
    const shown = !ok && one.visible ? '; text was visible, so nothing was tried again' : '';
    return el(
      'li',
      {},
      el('span', {}, `${one.n}. `, el('code', {}, one.model)),
      el('span', { className: 'ms' }, ms(one.durationMs ?? 0)),
      el('small', {}, `${one.modelTier}: ${why}${then}${shown}`),
    );
  });
  return section(attempts.length === 1 ? 'One attempt' : `${attempts.length} attempts`, el('ol', { className: 'list' }, ...items));
}

function routingOf(metadata) {
  const { usage } = metadata;
  const pairs = [
    ['Route', metadata.route],
    ['Model tier', metadata.modelTier],
    ['Model', metadata.model],
    ['Tokens in', usage && `${usage.inputTokens.toLocaleString('en')}`],
    ['Tokens out', usage && `${usage.complete ? '' : 'at least '}${usage.outputTokens.toLocaleString('en')}`],
    ['Provider’s word', metadata.finishReason],
  ].filter(([, value]) => value);
  return section('Route and cost', el('dl', { className: 'pairs' }, ...pairs.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, value)])));
}

function idsOf(turnId, traceId, conversationId) {
  const rows = [
    ['Turn', turnId, 'turn id'],
    ['Trace', traceId, 'trace id'],
    ['Conversation', conversationId, 'conversation id'],
  ].filter(([, value]) => value);
  const dashboard = safeUrl(document.body.dataset.dashboard);
  const link = dashboard && el('a', { href: new URL(`turn?id=${encodeURIComponent(turnId)}`, `${dashboard.href.replace(/\/$/, '')}/`).href, target: '_blank', rel: 'noopener noreferrer' }, 'Open in the dashboard');
  return section('Identifiers', el('dl', { className: 'ids' }, ...rows.map((row) => idRow(...row))), link ? el('p', { className: 'list' }, link) : '');
}

function recordOf(terminal) {
  const record = el('details', { className: 'record' }, el('summary', {}, `The ${terminal.type} record`));
  record.addEventListener('toggle', () => record.append(el('pre', { tabIndex: 0 }, JSON.stringify(terminal, null, 2))), { once: true });
  return record;
}

function sourceCard(detail, n) {
  const url = safeUrl(detail.url);
  const title = detail.title || url?.pathname.split('/').filter(Boolean).pop() || detail.url;
  const name = url
    ? el('a', { href: url.href, target: '_blank', rel: 'noopener noreferrer', referrerPolicy: 'no-referrer', title: url.href }, title)
    : el('span', {}, title);
  const from = [detail.publisher, url?.host].filter((word, at, all) => word && all.indexOf(word) === at).join(' · ');
  const origins = (detail.origins ?? []).map((origin) => chip(known(ORIGIN, origin) ?? origin));
  return el(
    'li',
    {},
    el('div', { className: 'card' }, el('span', {}, el('span', { className: 'n' }, `${n}. `), name), el('span', { className: 'from' }, from), el('span', { className: 'origins' }, ...origins)),
  );
}

/** A text as nodes that hold every character of it: code and emphasis are set off, their marks stay in the text and are not seen. */
function proseOf(text) {
  return text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/).map((piece, at) => {
    if (at % 2 === 0) return document.createTextNode(piece);
    const n = piece[0] === '`' ? 1 : 2;
    const tick = () => el('span', { className: 'tick' }, piece.slice(0, n));
    return el(n === 1 ? 'code' : 'strong', {}, tick(), piece.slice(n, -n), tick());
  });
}

async function digestOf(text) {
  if (!globalThis.crypto?.subtle) return null; // only where the page is served securely, or from this machine
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** One turn on the page. */
class TurnView {
  constructor(question) {
    this.root = $('turn').content.firstElementChild.cloneNode(true);
    this.part = (name) => this.root.querySelector(`.${name}`);
    this.part('question').textContent = question;
    this.text = document.createTextNode('');
    this.part('answer').append(this.text);
    this.beats = 0;
    this.beatAt = performance.now();
    $('turns').append(this.root);
    $('welcome').hidden = true;
    this.#state('', 'Asking …');
    this.ticker = setInterval(() => this.#tick(), 1000);
  }

  #state(kind, headline, ...chips) {
    this.root.className = `turn ${kind}`;
    this.part('headline').textContent = headline;
    this.part('chips').replaceChildren(...chips);
  }

  #tick() {
    const seconds = Math.floor((performance.now() - this.beatAt) / 1000);
    const since = seconds < 1 ? 'just now' : `${seconds} s ago`;
    this.part('alive').textContent = this.away ? '' : `last sign of life ${since}${this.beats ? ` · ${count(this.beats, 'heartbeat')}` : ''}`;
  }

  /** Bytes came; `heart` where it was a heartbeat. */
  beat(heart) {
    this.beatAt = performance.now();
    this.beats += heart ? 1 : 0;
    const dot = this.part('dot');
    if (heart || !dot.classList.contains('beat')) {
      dot.classList.remove('beat');
      requestAnimationFrame(() => dot.classList.add('beat'));
    }
    if (heart) this.#tick();
  }

  notice(kind, title, text = '', ...buttons) {
    const acts = buttons.map(([label, act]) => {
      const button = el('button', { type: 'button' }, label);
      button.addEventListener('click', () => act());
      return button;
    });
    const notice = el('div', { className: `notice ${kind}` }, el('strong', {}, title), text, acts.length ? el('div', { className: 'act' }, ...acts) : '');
    this.part('notices').append(notice);
    return notice;
  }

  acknowledged(ack) {
    this.ack = ack;
    this.#state('', 'Waiting for the first words …', chip(ack.route), chip(ack.modelTier));
    announce('The question was taken. Waiting for the answer.');
  }

  connected(again) {
    this.away = false;
    this.waitingNotice?.remove();
    this.waitingNotice = null;
    if (again) {
      this.#running();
      announce('The connection is back.');
    }
  }

  #running() {
    const chips = this.ack ? [chip(this.ack.route), chip(this.ack.modelTier)] : [];
    this.#state('', this.stopped ? 'Stopping …' : this.text.length ? 'Answering …' : 'Waiting for the first words …', ...chips);
  }

  append(text) {
    const first = this.text.length === 0;
    const follows = window.innerHeight + window.scrollY > document.documentElement.scrollHeight - 140;
    this.text.appendData(text);
    if (first) this.#running();
    if (follows) window.scrollTo(0, document.documentElement.scrollHeight);
  }

  rewind() {
    this.text.data = '';
  }

  waiting(cause, pauseMs, tries, now) {
    this.away = true;
    this.#tick();
    this.waitingNotice?.remove();
    this.#state('warn', this.text.length ? 'Connection lost. The turn goes on without us.' : 'Connection lost.');
    this.waitingNotice = this.notice('warn', `Trying again in ${ms(pauseMs)} (try ${tries})`, `${cause} ${this.text.length ? 'What is shown stays, and what was missed will follow.' : ''}`, ['Try now', now]);
    announce('The connection was lost. Trying again.');
  }

  stopping() {
    this.stopped = true;
    this.#running();
  }

  #settle() {
    clearInterval(this.ticker);
    this.waitingNotice?.remove();
    this.part('alive').textContent = '';
    this.root.setAttribute('aria-busy', 'false');
  }

  lost(cause, acknowledged, again) {
    this.#settle();
    this.#state('bad', acknowledged ? 'The connection could not be restored' : 'The service cannot be reached');
    const words = acknowledged ? 'The turn goes on at the service; its answer can still be fetched.' : 'The question may be sent again: it is asked only once.';
    const notice = this.notice('bad', cause, words, ['Try again', () => (notice.remove(), again())]);
    announce('The connection could not be restored.');
  }

  refused(refused, again) {
    this.#settle();
    const { problem, status } = refused;
    const title = known(REFUSAL, status) ?? (status >= 500 ? 'The service failed' : problem.title || `Status ${status}`);
    this.#state('bad', title, chip(`${status}`));
    const detail = [problem.detail, refused.retryAfterMs ? `It asks to wait ${ms(refused.retryAfterMs)}.` : ''].filter(Boolean).join(' ');
    const acts = this.ack || this.text.length ? [['Try again', () => (notice.remove(), again())]] : [];
    const notice = this.notice('bad', problem.title || title, detail, ...acts);
    if (problem.traceId) notice.append(el('dl', { className: 'ids' }, idRow('Trace', problem.traceId, 'trace id')));
    announce(`${title}. ${detail}`);
  }

  /** The turn's terminal; `seen` is what was streamed here, null where it was read from a snapshot. */
  ended(terminal, seen) {
    this.#settle();
    if (terminal.type === 'error') this.#failed(terminal);
    else this.#done(terminal, seen);
    const facts = this.part('facts');
    const { metadata } = terminal;
    const parts = [timingsOf(metadata.stageTimings ?? {}), toolsOf(metadata), attemptsOf(metadata), routingOf(metadata), idsOf(terminal.turnId, this.ack?.traceId, metadata.conversationId), recordOf(terminal)];
    facts.replaceChildren(...parts.filter(Boolean));
    facts.hidden = false;
  }

  #done(terminal, seen) {
    const { metadata } = terminal;
    const status = metadata.completionStatus;
    const [kind, headline, explained] = known(STATUS, status) ?? ['bad', `Ended as “${status}”`, 'This page does not know that status, so it takes it for no success.'];
    const chips = [chip(status, kind.split(' ')[0] === 'off' ? '' : kind.split(' ')[0])];
    if (metadata.partial) chips.push(chip('partial', 'warn'));
    if (metadata.reason) chips.push(chip(metadata.reason));
    if (metadata.attempts?.length > 1) chips.push(chip(count(metadata.attempts.length, 'attempt')));
    if (metadata.degraded) chips.push(chip('cheaper tier', 'warn'));
    if (metadata.fallback && status !== 'fallback') chips.push(chip('fallback', 'warn'));
    if (metadata.recovered) chips.push(chip('closed by recovery', 'warn'));
    if (seen?.drops) chips.push(chip(`resumed ${seen.drops === 1 ? 'once' : `${seen.drops} times`}`));
    this.#state(kind, headline, ...chips);
    const reason = metadata.reason ? sentence(known(REASON, metadata.reason) ?? metadata.reason) : '';
    const ending = !metadata.partial && !metadata.answer ? ['Nothing was shown.'] : [];
    this.part('after').textContent = [reason, explained, ...ending].filter(Boolean).join(' ');
    this.text.data = metadata.answer; // the canonical answer has the last word
    this.part('answer').replaceChildren(...proseOf(metadata.answer));
    if (seen !== null) this.#compare(metadata, seen);
    const details = metadata.sourceDetails ?? [];
    if (details.length) {
      this.root.querySelector('.sources ol').replaceChildren(...details.map((detail, at) => sourceCard(detail, at + 1)));
      this.part('sources').hidden = false;
    }
    announce(`${headline}. ${count(details.length, 'source')}.`);
  }

  /** Says where the answer differs from what was streamed, and checks that nothing of the stream was lost or doubled on its way. */
  async #compare(metadata, seen) {
    if (seen.text && seen.text !== metadata.answer) this.notice('', 'The final answer replaced the streamed text', 'The two differ: what stands here is what was stored.');
    const digest = await digestOf(seen.text);
    const whole = seen.chunks === metadata.chunkCount && (digest === null || digest === metadata.streamedSha256);
    this.root.dataset.stream = whole ? 'whole' : 'broken';
    const chunks = count(seen.chunks, 'chunk');
    this.part('pairs').append(el('dt', {}, 'Streamed'), el('dd', {}, whole ? `${chunks}, complete` : `${chunks} of ${metadata.chunkCount}`));
    if (!whole) this.notice('bad', 'Some of the streamed text did not arrive', 'The answer above is the stored one, and whole.');
  }

  #failed(terminal) {
    const { metadata } = terminal;
    this.#state('bad', 'No answer', chip(terminal.code, 'bad'));
    const why = known(REASON, metadata.reason ?? terminal.code);
    this.part('after').textContent = [why ? sentence(why) : '', terminal.retryable ? 'Asking again may help.' : ''].filter(Boolean).join(' ');
    const acts = terminal.retryable ? [['Ask again', () => page.again(this.part('question').textContent)]] : [];
    this.notice('bad', terminal.message, '', ...acts);
    announce(`No answer. ${terminal.message}`);
  }
}

/* --- the page --------------------------------------------------------------------------------------------------------------------- */

const page = {
  kept: remembered(),
  run: null,
  blockedUntil: 0,

  begin() {
    const { routes, faults, dashboard } = document.body.dataset;
    for (const [id, words] of [['route', routes], ['fault', faults]])
      for (const word of words.split(' ').filter(Boolean)) $(id).append(el('option', { value: word }, word.replaceAll('_', ' ')));
    $('fault-field').hidden = !faults;
    const link = safeUrl(dashboard);
    if (link) Object.assign($('dashboard'), { href: link.href, hidden: false });
    $('key').value = read(KEY);
    $('key').addEventListener('input', () => write(KEY, $('key').value.trim()));
    $('composer').addEventListener('submit', (event) => (event.preventDefault(), this.submit()));
    $('question').addEventListener('input', () => (this.hint(''), this.fit()));
    $('question').addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.submit();
      }
    });
    $('stop').addEventListener('click', () => {
      this.run?.stop();
      this.changed();
    });
    $('fresh').addEventListener('click', () => this.fresh());
    $('examples').addEventListener('click', ({ target }) => target instanceof HTMLButtonElement && this.again(target.textContent));
    window.addEventListener('online', () => this.run?.wake.abort());
    window.addEventListener('pagehide', () => this.save(true));
    const open = this.kept.turns.findLast(({ state }) => state === 'open');
    for (const turn of this.kept.turns) this.restore(turn, turn === open);
    this.changed();
  },

  fit() {
    const area = $('question');
    area.style.height = 'auto';
    area.style.height = `${area.scrollHeight}px`;
  },

  hint(text) {
    $('hint').textContent = text;
  },

  again(question) {
    $('question').value = question;
    this.fit();
    this.submit();
  },

  submit() {
    const message = $('question').value.trim();
    if (this.run) return this.hint('An answer is on its way. Stop it first, or wait for its end.');
    if (Date.now() < this.blockedUntil) return undefined;
    if (!message) {
      this.hint('Write a question first.');
      return $('question').focus();
    }
    const fault = $('fault').value;
    const body = { message, conversationId: this.kept.conversationId, route: $('route').value, metadata: fault ? { fault } : null };
    const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
    const turn = {
      key: `try-${key}`,
      body: JSON.stringify(Object.fromEntries(Object.entries(body).filter(([, value]) => value))),
      question: message,
      turnId: null,
      seq: 0,
      text: '',
      chunks: 0,
      drops: 0,
      ack: null,
      state: 'open',
    };
    this.kept.turns = [...this.kept.turns, turn].slice(-LIMITS.turns);
    $('question').value = '';
    this.fit();
    this.hint('');
    this.follow(turn, new TurnView(message));
    return undefined;
  },

  follow(turn, view) {
    turn.view = view;
    this.run = new TurnRun(turn, view, this);
    this.save(true);
    this.changed();
    view.root.scrollIntoView({ block: 'start' });
    this.run.run().catch((error) => {
      console.error(error); // a bug of this page: said, not swallowed
      this.run = null;
      view.lost('This page broke.', true, () => this.resume(turn));
      this.changed();
    });
  },

  /** Follows a turn again whose connection was given up. */
  resume(turn) {
    if (this.run) return this.hint('An answer is on its way. Wait for its end first.');
    const { view } = turn;
    const fresh = new TurnView(turn.question);
    if (turn.ack) fresh.acknowledged(turn.ack);
    if (turn.text) fresh.append(turn.text);
    view.root.replaceWith(fresh.root);
    turn.state = 'open';
    if (!this.kept.turns.includes(turn)) this.kept.turns.push(turn);
    return this.follow(turn, fresh);
  },

  /** After a reload: an ended turn from its snapshot, a running one from where the tab left it. */
  async restore(turn, follow) {
    const view = new TurnView(turn.question);
    turn.view = view;
    if (turn.ack) view.acknowledged(turn.ack);
    if (turn.text) view.append(turn.text);
    if (follow) {
      this.follow(turn, view);
      return;
    }
    if (turn.state === 'open') {
      view.lost('This turn was not followed to its end.', turn.turnId !== null, () => this.resume(turn));
      return;
    }
    try {
      const { terminal } = await call('GET', `v1/turns/${encodeURIComponent(turn.turnId)}`);
      if (!terminal) throw new StreamBroken('This turn has no end yet.');
      view.ended(terminal, null);
    } catch (error) {
      view.lost(error instanceof Refused || error instanceof StreamBroken ? error.message : 'The service was not reached.', true, () => this.resume(turn));
    }
  },

  ended(terminal) {
    this.run = null;
    if (terminal) this.kept.conversationId = terminal.metadata.conversationId ?? this.kept.conversationId;
    if (terminal?.retryAfterMs) this.block(Math.min(terminal.retryAfterMs, LIMITS.retryAfterMs));
    this.save(true);
    this.changed();
  },

  refused(refused, turn) {
    this.run = null;
    if (turn.state === 'refused') {
      this.kept.turns = this.kept.turns.filter((one) => one !== turn);
      if (!$('question').value) {
        $('question').value = turn.question;
        this.fit();
      }
    }
    if (refused.retryAfterMs) this.block(refused.retryAfterMs);
    if (refused.status === 401 || refused.status === 403) {
      $('options').open = true;
      $('key').focus();
    }
    this.save(true);
    this.changed();
  },

  /** Holds the button back, and counts down on it. */
  block(forMs) {
    this.blockedUntil = Date.now() + forMs;
    clearInterval(this.countdown);
    this.countdown = setInterval(() => this.changed(), 250);
    this.changed();
  },

  changed() {
    const left = this.blockedUntil - Date.now();
    if (left <= 0) clearInterval(this.countdown);
    const running = this.run !== null;
    $('send').hidden = running;
    $('send').disabled = left > 0;
    $('send').textContent = left > 0 ? `Ask in ${Math.ceil(left / 1000)} s` : 'Ask';
    $('stop').hidden = !running;
    $('stop').disabled = running && this.run.stopping;
    $('stop').textContent = running && this.run.stopping ? 'Stopping …' : 'Stop';
    $('fresh').hidden = this.kept.turns.length === 0;
    if (!running && (document.activeElement === document.body || document.activeElement === $('stop'))) $('question').focus({ preventScroll: true });
  },

  /** Remembers turns and cursors: at once, or soon. A cursor is only kept beside the text that belongs to it. */
  save(now = false) {
    if (!now) {
      this.saver ??= setTimeout(() => this.save(true), LIMITS.saveMs);
      return;
    }
    clearTimeout(this.saver);
    this.saver = null;
    const turns = this.kept.turns.map(({ view, ...turn }) => (turn.text.length > LIMITS.keptChars ? { ...turn, seq: 0, text: '', chunks: 0 } : turn));
    write(STORE, turns.length || this.kept.conversationId ? JSON.stringify({ conversationId: this.kept.conversationId, turns }) : '');
  },

  fresh() {
    this.run?.leave();
    this.run = null;
    this.kept = { conversationId: null, turns: [] };
    this.save(true);
    $('turns').replaceChildren();
    $('welcome').hidden = false;
    this.hint('');
    this.changed();
    $('question').focus();
    announce('A new conversation.');
  },
};

page.begin();
