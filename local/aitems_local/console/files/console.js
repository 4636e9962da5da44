// Follows the stack: puts the HTML that the server made where it belongs. What is shown, and how, is decided there.
"use strict";

const list = document.getElementById("list");
const live = document.getElementById("live");
const search = document.getElementById("search");
const result = document.getElementById("result");
const parts = new Map([...document.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
const { epoch } = document.body.dataset;
const pending = new Map(); // requests that have no place in the list yet
const mine = new Set(); // requests that this page sent, and whose end is to be told
let last = `${epoch}-${document.body.dataset.last}`;
let view = new URLSearchParams(location.search);
view.delete("sent");
let source, retry;
let queued = null;
let wanted = ""; // the id of a request that somebody wants to see

// --- following ------------------------------------------------------------------------------------------------------

function follow(fresh) {
  if (source) source.close();
  clearTimeout(retry);
  const query = new URLSearchParams(view);
  if (!fresh) query.set("last", last);
  source = new EventSource(`/events?${query}`);
  source.onopen = () => told(document.body.dataset.live, true);
  source.onerror = () => {
    told(document.body.dataset.waiting, false);
    // A browser tries again by itself, but not after every kind of failure.
    if (source.readyState === EventSource.CLOSED) retry = setTimeout(follow, 1000);
  };
  source.onmessage = (event) => {
    if (!event.lastEventId.startsWith(`${epoch}-`)) return location.reload();
    last = event.lastEventId;
    take(JSON.parse(event.data));
  };
}

function told(words, well) {
  if (live.textContent !== words) live.textContent = words;
  live.classList.toggle("well", well);
}

// Several messages between two pictures are put in at once.
function take(message) {
  if (!queued) {
    queued = { rows: {}, parts: {} };
    // A page in the background has no pictures, but a title.
    (document.hidden ? setTimeout : requestAnimationFrame)(show);
  }
  Object.assign(queued.rows, message.rows);
  Object.assign(queued.parts, message.parts);
  if (message.order) queued.order = message.order;
  queued.title = message.title;
}

function show() {
  const { rows, parts: changed, order, title } = queued;
  queued = null;
  document.title = title;
  for (const [name, html] of Object.entries(changed)) put(parts.get(name), html);
  for (const [number, row] of Object.entries(rows)) fill(number, row);
  if (order) arrange(order);
  visit();
}

function fill(number, [state, line, body, id]) {
  let request = document.getElementById(`r${number}`) || pending.get(`r${number}`);
  if (!request) {
    const item = document.createElement("li");
    item.innerHTML = `<details id="r${number}"><summary></summary><div class="body"></div></details>`;
    request = item.firstChild;
    pending.set(request.id, request); // until its place in the list is told
  }
  const before = request.dataset.state;
  request.dataset.state = state;
  request.dataset.id = id;
  put(request.firstChild, line);
  // What is folded is not made: of a thousand requests, a person reads three.
  if (request.open) put(request.lastChild, body);
  else folded.set(request, body);
  announce(request, before, state);
}

// Newest first, as the server says; whoever is not named goes.
function arrange(order) {
  const wanted = new Set(order.map((number) => `r${number}`));
  for (const item of [...list.children]) if (!wanted.has(item.firstChild.id)) item.remove();
  let next = list.firstChild;
  for (const number of order) {
    const request = document.getElementById(`r${number}`) || pending.get(`r${number}`);
    if (!request) return follow(true); // something was missed: take it all anew
    const item = request.parentNode;
    if (item === next) next = next.nextSibling;
    else list.insertBefore(item, next);
  }
  pending.clear();
}

// --- putting in -----------------------------------------------------------------------------------------------------

const shown = new WeakMap();
const folded = new WeakMap();

function unfold(request) {
  if (!folded.has(request)) return;
  put(request.lastChild, folded.get(request));
  folded.delete(request);
}

// Just before it opens; and where something else opens it, such as a search in the page.
list.addEventListener("click", ({ target }) => unfold(target.closest("#list > li > details")), true);
list.addEventListener("toggle", ({ target }) => unfold(target), true);

// Replaces what is inside, if it differs; what was unfolded stays so, and the keyboard stays where it was.
function put(element, html) {
  if (!element || shown.get(element) === html) return;
  shown.set(element, html);
  const folds = [...element.querySelectorAll("details")].map((fold) => fold.open);
  const within = element.contains(document.activeElement) && document.activeElement !== element;
  const place = within ? [...element.querySelectorAll(focusable)].indexOf(document.activeElement) : -1;
  element.innerHTML = html;
  [...element.querySelectorAll("details")].forEach((fold, number) => { if (folds[number]) fold.open = true; });
  if (place >= 0) element.querySelectorAll(focusable)[place]?.focus({ preventScroll: true });
}

const focusable = "a[href], button, input, select, summary, [tabindex]";

// Tells a screen reader how what was sent from here has ended; what others send goes by in silence.
function announce(request, before, state) {
  if (before === state || !["created", "rejected", "failed"].includes(state)) return;
  if (!mine.delete(request.dataset.id)) return;
  const words = document.createElement("p");
  words.className = "outcome";
  words.textContent = [".name", ".state"].map((each) => request.querySelector(each).textContent.trim()).join(": ");
  result.append(words);
}

// --- what a person does ---------------------------------------------------------------------------------------------

function look(changes) {
  for (const [name, value] of Object.entries(changes)) value ? view.set(name, value) : view.delete(name);
  history.replaceState(null, "", view.size ? `/?${view}` : "/");
  follow(true);
}

// Goes to the request that is wanted, now or when it has come.
function visit() {
  const request = wanted && list.querySelector(`[data-id="${wanted}"]`);
  if (!request) return false;
  wanted = "";
  unfold(request);
  request.open = true;
  request.firstChild.focus();
  return true;
}

async function post(form, submitter) {
  const body = new URLSearchParams(new FormData(form, submitter));
  const answer = await fetch(form.getAttribute("action"), { method: "POST", body, headers: { Accept: "text/x-part" } });
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  return answer.text();
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form === search) {
    event.preventDefault();
    look({ q: search.elements.q.value, limit: "" });
    return;
  }
  event.preventDefault();
  const button = event.submitter;
  if (form.dataset.busy) return;
  form.dataset.busy = "true";
  if (form.id !== "standing") {
    const words = document.createElement("p");
    words.textContent = document.getElementById("send").dataset.sending;
    result.replaceChildren(words);
  }
  try {
    const html = await post(form, button);
    if (form.id === "standing") return;
    result.innerHTML = html;
    const to = result.querySelector(".to");
    if (to) mine.add(to.dataset.id);
    const name = document.getElementById("name");
    const next = result.querySelector(".result")?.dataset.next;
    if (form.id === "send" && next && name.dataset.made !== "by hand" && to) name.value = next;
    if (form.classList.contains("again")) result.querySelector(".again button")?.focus();
    if (to) tell(to.dataset.id);
  } catch (error) {
    const words = document.createElement("p");
    words.className = "bad";
    words.textContent = error.message;
    if (form.id !== "standing") result.replaceChildren(words);
  } finally {
    delete form.dataset.busy;
  }
});

// What was settled before its answer was here is told as well.
function tell(id) {
  const request = list.querySelector(`[data-id="${id}"]`);
  if (request) announce(request, "", request.dataset.state);
}

document.addEventListener("click", (event) => {
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  const link = event.target.closest("a[data-state], a[data-limit], a.to");
  if (!link) return;
  event.preventDefault();
  if (link.dataset.limit) return look({ limit: link.dataset.limit });
  if (link.classList.contains("to")) {
    wanted = link.dataset.id;
    if (visit()) return;
    search.elements.q.value = wanted;
    return look({ q: wanted, state: "", limit: "" });
  }
  look({ state: link.dataset.state, limit: "" });
});

let typing;
search.elements.q.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => look({ q: search.elements.q.value, limit: "" }), 250);
});
document.getElementById("name").addEventListener("input", (event) => { event.target.dataset.made = "by hand"; });

addEventListener("pagehide", () => source.close());
addEventListener("pageshow", (event) => { if (event.persisted) follow(true); });
follow(false);
