"use strict";
// Attempts as the server tells of them. Everything that a model or a person wrote is set as text, never as markup.
const token = new URLSearchParams(location.search).get("token");
const attempts = new Map();
const at = (id) => document.getElementById(id);
const SETTINGS = ["budget", "effort", "temperature", "seed"];
let chosen = null; // the number of the attempt that is shown
let place = null; // thinking tokens at which it would be steered; null: where it ends
let began = new Map(); // when each running attempt was first heard of
let known = false;

function node(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

function drawnNode(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

async function order(what) {
  at("error").hidden = true;
  const settings = Object.fromEntries(SETTINGS.map((name) => [name, at(name).value.trim()]));
  const answer = await fetch("/orders", {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify({ ...settings, ...what }),
  });
  const said = await answer.json();
  if (!answer.ok) {
    at("error").textContent = said.error;
    at("error").hidden = false;
    return;
  }
  if (what.do !== "stop") choose(said.number);
}

function choose(number, where = null) {
  chosen = number;
  place = where;
  show();
}

function stretch(part) {
  switch (part.kind) {
    case "stop": return node("span", "stop-mark", `stops at ${part.at.toLocaleString("en")}`);
    case "cut": return node("span", "cut-mark", `\n⟨cut at ${part.at.toLocaleString("en")}⟩ ${part.text}`);
    case "appended": return node("span", "appended", part.text || "⟨goes on⟩");
    default: return node("span", part.kind, part.text);
  }
}

function counts(attempt) {
  const seconds = attempt.running ? (performance.now() - began.get(attempt.number)) / 1000 : attempt.seconds;
  const rate = seconds > 0.2 ? ` · ${Math.round(attempt.decoded_tokens / seconds).toLocaleString("en")} tokens/s` : "";
  const budget = attempt.budget ? ` of ${attempt.budget.toLocaleString("en")}` : "";
  return `${attempt.thinking_tokens.toLocaleString("en")}${budget} tokens of thinking · ${seconds.toFixed(1)} s${rate}`;
}

function show() {
  draw();
  table();
  const attempt = attempts.get(chosen);
  at("one").hidden = !attempt;
  if (!attempt) return;
  at("name").textContent = `[${attempt.number}] ${attempt.policy}`;
  const transcript = at("transcript");
  transcript.replaceChildren(...attempt.parts.map(stretch));
  transcript.scrollTop = transcript.scrollHeight;
  state(attempt);
}

function state(attempt) {
  at("counts").textContent = counts(attempt);
  at("stop").hidden = !attempt.running;
  at("place").textContent = place === null ? "where it ends" : `after token ${place} of ${attempt.thinking_tokens}`;
}

const ENDS = { natural: "by itself", forced: "cut", context: "cut by the context" };

function table() {
  const all = [...attempts.values()];
  at("compared").hidden = all.length < 2;
  const rows = all.map((attempt) => {
    const row = node("tr", attempt.number === chosen ? "chosen" : "");
    const from = attempt.parent ? `${attempt.parent} at ${attempt.shared_tokens.toLocaleString("en")}` : "";
    const first = all.find((other) => other.question === attempt.question);
    const same = attempt !== first && attempt.answer.trim() === first.answer.trim();
    row.append(
      node("td", "n", String(attempt.number)), node("td", "", attempt.policy), node("td", "", from),
      node("td", "n", attempt.thinking_tokens.toLocaleString("en")),
      node("td", "", attempt.finished ? ENDS[attempt.thinking_end] ?? "" : attempt.running ? "…" : "stopped"),
      node("td", "n", attempt.running ? "" : `${attempt.seconds.toFixed(1)} s`),
      node("td", same ? "same" : "", attempt.answer.trim().slice(0, 200)),
    );
    row.addEventListener("click", () => choose(attempt.number));
    return row;
  });
  at("rows").replaceChildren(...rows);
}

const LEFT = 26, ROW = 46, TOP = 34, LABEL = 230;

function draw() {
  const all = [...attempts.values()], tree = at("tree");
  at("drawn").hidden = !all.length;
  if (!all.length) return;
  const width = Math.max(320, tree.clientWidth || 900), height = TOP + ROW * all.length + 6;
  const most = Math.max(8, ...all.map((attempt) => attempt.thinking_tokens));
  const label = width < 560 ? 120 : LABEL;
  const x = (tokens) => LEFT + (tokens / most) * (width - LEFT - label);
  const y = (number) => TOP + 14 + ROW * (number - 1);
  tree.setAttribute("viewBox", `0 0 ${width} ${height}`);
  tree.setAttribute("height", height);
  const parts = [];
  const step = 10 ** Math.floor(Math.log10(most)), every = most / step > 5 ? 2 * step : most / step > 2 ? step : step / 2;
  for (let tick = 0; tick <= most; tick += Math.max(1, every)) {
    parts.push(drawnNode("line", { class: "grid", x1: x(tick), x2: x(tick), y1: TOP - 8, y2: height - 6 }));
    parts.push(drawnNode("text", { class: "tick", x: x(tick), y: 18, "text-anchor": "middle" }, tick.toLocaleString("en")));
  }
  for (const attempt of all) {
    const here = y(attempt.number), colour = `k${(attempt.number - 1) % 7}`;
    const group = drawnNode("g", { class: `${attempt.number === chosen ? "chosen" : ""} ${attempt.running ? "running" : ""}` });
    const start = x(attempt.shared_tokens), end = x(attempt.thinking_tokens);
    if (attempt.parent) {
      group.append(drawnNode("path", { class: `fork ${colour}`, d: `M${start} ${y(attempt.parent)}V${here}` }));
    }
    group.append(drawnNode("path", { class: `line ${colour}`, d: `M${start} ${here}H${Math.max(end, start + 0.1)}` }));
    for (const part of attempt.parts) {
      if (part.kind === "stop" && part.at >= attempt.shared_tokens) {
        group.append(drawnNode("circle", { class: `stop ${colour}`, cx: x(part.at), cy: here, r: 6 }));
      } else if (part.kind === "cut") {
        group.append(drawnNode("line", { class: `cut ${colour}`, x1: x(part.at), x2: x(part.at), y1: here - 9, y2: here + 9 }));
      }
    }
    if (attempt.number === chosen && place !== null) {
      group.append(drawnNode("line", { class: "here", x1: x(place), x2: x(place), y1: here - 14, y2: here + 14 }));
    }
    const said = attempt.answer.trim() || attempt.policy;
    const room = Math.floor((label - 46) / 7);
    const shown = `[${attempt.number}] ${said.length > room ? `${said.slice(0, room - 1)}…` : said}`;
    group.append(drawnNode("text", { x: Math.max(end, start) + 14, y: here + 5 }, shown.replaceAll("\n", " ")));
    const hit = drawnNode("path", { class: "hit", d: `M${LEFT} ${here}H${Math.max(end, start + 1)}`, "data-attempt": attempt.number });
    hit.addEventListener("click", (event) => {
      const box = tree.getBoundingClientRect();
      const tokens = Math.round(((((event.clientX - box.left) * width) / box.width - LEFT) / (width - LEFT - label)) * most);
      choose(attempt.number, tokens >= attempt.thinking_tokens ? null : Math.max(0, tokens));
    });
    group.append(hit);
    parts.push(group);
  }
  tree.replaceChildren(...parts);
}

let waiting = false;
function soon() { // at most once a frame, however fast tokens come
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
    if (attempts.has(chosen)) state(attempts.get(chosen));
  });
}

function heard(event) {
  const said = JSON.parse(event.data);
  if (said.kind === "hello") {
    attempts.clear();
    at("model").textContent = said.model;
    if (!known) for (const name of SETTINGS) at(name).value = said[name];
    known = true;
    return;
  }
  if (said.kind === "attempt") {
    if (said.running && !began.has(said.number)) began.set(said.number, performance.now());
    attempts.set(said.number, said);
    if (chosen === null) chosen = said.number;
    show();
    return;
  }
  const attempt = attempts.get(said.number), last = attempt.parts.at(-1), part = said.part;
  Object.assign(attempt, { thinking_tokens: said.thinking, decoded_tokens: said.decoded });
  const goesOn = last && last.kind === part.kind && (part.kind === "thinking" || part.kind === "answer");
  if (goesOn) last.text += part.text;
  else attempt.parts.push(part);
  if (part.kind === "answer") attempt.answer += part.text;
  if (said.number === chosen) {
    const transcript = at("transcript");
    if (goesOn && transcript.lastElementChild) transcript.lastElementChild.textContent = last.text;
    else transcript.append(stretch(part));
    transcript.scrollTop = transcript.scrollHeight;
  }
  soon();
}

const events = new EventSource(`/events?token=${encodeURIComponent(token)}`);
events.onmessage = heard;
events.onerror = () => { at("error").textContent = "the model is gone: start it again"; at("error").hidden = false; };
events.onopen = () => { at("error").hidden = true; };
at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  order({ do: "ask", text: at("question").value });
});
at("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); at("ask").requestSubmit(); }
});
at("steer").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const text = button.dataset.text ?? at("text").value;
  order({ do: button.dataset.do, parent: chosen, at: place, text: button.dataset.do === "append" ? text : "" });
});
addEventListener("resize", soon);
