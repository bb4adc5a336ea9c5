// The board sorts, filters and searches here: the page is a file, and there is no server to ask.

const SHOWN_AT_ONCE = 200;
const VERDICTS = [
  ["better", "better"], ["worse", "worse"], ["within noise", "within noise"], ["reference", "the reference"], ["other", "not comparable"],
];
const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(1)}%`);
const points = (share) => `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(1)}`;
const number = (value) => (value === null ? "–" : value.toLocaleString("en", {maximumFractionDigits: value < 100 ? 1 : 0}));
const usd = (value) => (value === null ? "–" : `$${value.toFixed(value === 0 || value >= 0.1 ? 2 : 1 - Math.floor(Math.log10(value)))}`);
const day = (seconds) => new Date(1000 * seconds).toISOString().slice(0, 16).replace("T", " ");

let sweeps = [];

function verdict(row) {
  if (row.reference) return "reference";
  return row.against === null ? "other" : row.against[0];
}

function drawn(row) {
  const cell = element("td", "chance");
  if (row.accuracy === null) return cell;
  const space = "http://www.w3.org/2000/svg";
  const part = (tag, attributes) => {
    const made = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const svg = part("svg", {viewBox: "0 0 104 12", "aria-hidden": "true"});
  svg.append(part("line", {class: "rail", x1: 2, x2: 102, y1: 6, y2: 6}));
  if (row.accuracy_low !== null) svg.append(part("line", {class: "whisker", x1: 2 + 100 * row.accuracy_low, x2: 2 + 100 * row.accuracy_high, y1: 6, y2: 6}));
  svg.append(part("circle", {cx: 2 + 100 * row.accuracy, cy: 6, r: 3.5}));
  cell.append(svg);
  return cell;
}

function against(row) {
  const kind = verdict(row);
  if (kind === "reference") return element("td", "", element("span", "ref", "the reference"));
  if (kind === "other") return element("td", "other", "–");
  const [word, difference, low, high, p, items] = row.against;
  const cell = element("td", "", element("span", `verdict ${word === "within noise" ? "noise" : word}`, word));
  if (difference !== null) cell.append(element("small", "", ` ${points(difference)} (${points(low)} … ${points(high)})`));
  cell.dataset.tip = `${word}\np corrected ${p === null ? "–" : p < 0.001 ? "<0.001" : p.toFixed(3)}\n${items.toLocaleString("en")} items of both`;
  return cell;
}

function interval(value, low, high, shown) {
  const cell = element("td", "n", element("span", "strong", shown(value)));
  if (low !== null && low !== undefined) cell.append(element("small", "", ` ${shown(low)} – ${shown(high)}`));
  return cell;
}

function step(row) {
  const sweep = sweeps[row.sweep];
  const name = element("code", "", written(sweep.step));
  const cell = element("td", "");
  if (sweep.page === null) cell.append(name);
  else {
    const link = element("a", "", name);
    link.href = sweep.page.split("/").map(encodeURIComponent).join("/");
    cell.append(link);
  }
  const packages = Object.entries(sweep.packages).map(([library, version]) => `${library} ${version}`).join(", ");
  cell.dataset.tip = plain(`${sweep.step} of ${sweep.store}\ncommit ${sweep.commit || "not kept"}\n${sweep.machine}\n${packages}\n${sweep.decoded.toLocaleString("en")} tokens decoded, ${usd(sweep.usd)} in all`);
  return cell;
}

const text = (value, kind = "td") => element(kind, "text", written(String(value)));

// Title, what it sorts by (text or number), and its cell.
const COLUMNS = [
  ["model", (row) => sweeps[row.sweep].model, (row) => { const cell = text(sweeps[row.sweep].model, "th"); cell.scope = "row"; return cell; }],
  ["task", (row) => row.task, (row) => text(row.task)],
  ["method", (row) => row.method, (row) => text(row.method)],
  ["policy", (row) => row.policy, (row) => text(row.policy)],
  ["accuracy", (row) => row.accuracy, (row) => interval(row.accuracy, row.accuracy_low, row.accuracy_high, percent)],
  ["", null, drawn],
  ["against the reference", (row) => (row.against === null ? null : row.against[1]), against],
  ["thinking tokens", (row) => row.thinking_tokens, (row) => interval(row.thinking_tokens, row.thinking_tokens_low, row.thinking_tokens_high, number)],
  ["$ per question", (row) => row.usd, (row) => element("td", "n", usd(row.usd))],
  ["items", (row) => row.items, (row) => element("td", "n", number(row.items) + (sweeps[row.sweep].samples > 1 ? ` × ${sweeps[row.sweep].samples}` : ""))],
  ["finished, UTC", (row) => sweeps[row.sweep].finished, (row) => element("td", "n", day(sweeps[row.sweep].finished))],
  ["sweep", (row) => sweeps[row.sweep].step, step],
];
const NUMBERS = new Set(["accuracy", "thinking tokens", "$ per question", "items", "finished, UTC"]);

const board = {
  rows: [], matches: [], shown: 0, sorted: "accuracy", down: true,

  chosen(row, skip = "") {
    const sweep = sweeps[row.sweep];
    const wanted = {model: sweep.model, task: row.task, method: row.method, verdict: verdict(row)};
    for (const [id, value] of Object.entries(wanted)) {
      if (id !== skip && byId(id).value && byId(id).value !== value) return false;
    }
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    return words.every((word) => row.words.includes(word));
  },

  filter() {
    const by = COLUMNS.find(([title]) => title === this.sorted)[1];
    const way = this.down ? -1 : 1;
    this.matches = this.rows.filter((row) => this.chosen(row)).sort((a, b) => {
      const [one, other] = [by(a), by(b)];
      if (one === null || other === null) return (one === null) - (other === null);
      return way * (typeof one === "string" ? one.localeCompare(other, "en", {numeric: true}) : one - other) || a.place - b.place;
    });
    const of = new Set(this.matches.map((row) => row.sweep)).size;
    byId("matches").textContent = `${this.matches.length.toLocaleString("en")} of ${this.rows.length.toLocaleString("en")} points, of ${of.toLocaleString("en")} sweeps`;
    for (const heading of byId("columns").children) {
      if (heading.dataset.title === this.sorted) heading.setAttribute("aria-sort", this.down ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    }
    byId("rows").replaceChildren();
    this.shown = 0;
    this.more();
  },

  more() {
    const next = this.matches.slice(this.shown, this.shown + SHOWN_AT_ONCE);
    byId("rows").append(...next.map((row) => element("tr", "", ...COLUMNS.map(([, , cell]) => cell(row)))));
    this.shown += next.length;
    byId("more").hidden = this.shown >= this.matches.length;
  },

  sort(title) {
    this.down = this.sorted === title ? !this.down : NUMBERS.has(title);
    this.sorted = title;
    this.filter();
  },
};

function options(id, values) {
  byId(id).replaceChildren(new Option("all", ""), ...values.map(([value, shown]) => new Option(plain(shown), value)));
}

function tips() {
  const tip = byId("tip");
  const hide = () => { tip.hidden = true; };
  document.addEventListener("pointerover", (event) => {
    const mark = event.target.closest?.("[data-tip]");
    if (!mark) return hide();
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const at = mark.getBoundingClientRect(), own = tip.getBoundingClientRect();
    tip.style.left = `${Math.min(Math.max(8, at.left), document.documentElement.clientWidth - own.width - 8)}px`;
    tip.style.top = `${at.top - own.height - 6 > 8 ? at.top - own.height - 6 : at.bottom + 6}px`;
    return undefined;
  });
  document.addEventListener("scroll", hide, {passive: true, capture: true});
}

async function start() {
  const data = await unpacked("data");
  sweeps = data.sweeps;
  board.rows = data.rows;
  board.rows.forEach((row, place) => {
    const sweep = sweeps[row.sweep];
    row.place = place;
    row.words = [sweep.model, row.task, row.method, row.policy, sweep.step, sweep.store, sweep.commit].join(" ").toLowerCase();
  });
  const known = (of) => [...new Set(board.rows.map(of))].sort((a, b) => a.localeCompare(b, "en", {numeric: true})).map((value) => [value, value]);
  options("model", known((row) => sweeps[row.sweep].model));
  options("task", known((row) => row.task));
  options("method", known((row) => row.method));
  options("verdict", VERDICTS);
  byId("columns").replaceChildren(...COLUMNS.map(([title, by]) => {
    const heading = element("th", NUMBERS.has(title) ? "n" : "");
    heading.dataset.title = title;
    heading.scope = "col";
    if (by === null) {
      heading.setAttribute("aria-label", "accuracy drawn");
      return heading;
    }
    const button = element("button", "", title);
    button.type = "button";
    button.addEventListener("click", () => board.sort(title));
    heading.append(button);
    return heading;
  }));
  tips();
  byId("controls").hidden = false;
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  for (const event of ["input", "change"]) byId("controls").addEventListener(event, () => board.filter());
  byId("more").addEventListener("click", () => board.more());
  board.filter();
}

start();
