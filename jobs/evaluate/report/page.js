// The page is complete without this; here are the tips of its charts, and the viewer of its samples. What models and
// users wrote reaches the page as text nodes only, never as HTML (nodes.js, which comes before this).

const VERDICTS = {c: "correct", w: "wrong", n: "no_answer", e: "error", u: "ungraded", "-": "error"};
const WORDS = {correct: "correct", wrong: "wrong", no_answer: "no answer", error: "not graded", ungraded: "not graded"};
const GLYPHS = {c: "✓", w: "✗", n: "–", e: "?", u: "?", "-": " "};
const ENDS = {natural: "natural end", forced: "cut by the budget", context: "out of context", rejected: "rejected", ignored: "beyond its budget"};
const SHOWN_AT_ONCE = 200;
const FILTERS = [
  ["all", "all", () => true],
  ["won", "wrong → right", (a, b) => a !== "c" && b === "c"],
  ["lost", "right → wrong", (a, b) => a === "c" && b !== "c"],
  ["both", "right in both", (a, b) => a === "c" && b === "c"],
  ["neither", "right in neither", (a, b) => a !== "c" && b !== "c"],
];

function tips() {
  const tip = byId("tip");
  const hide = () => { tip.hidden = true; };
  const show = (event) => {
    const mark = event.target.closest?.("[data-tip]");
    if (!mark) return hide();
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const at = mark.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, at.left + at.width / 2 - own.width / 2), document.documentElement.clientWidth - own.width - 8);
    tip.style.left = `${left}px`;
    tip.style.top = `${at.top - own.height - 6 > 8 ? at.top - own.height - 6 : at.bottom + 6}px`;
  };
  document.addEventListener("pointerover", show);
  document.addEventListener("scroll", hide, {passive: true});
  for (const choice of document.querySelectorAll(".ask input")) {
    choice.addEventListener("change", () => { choice.closest("figure").dataset.question = choice.value; });
  }
  for (const button of document.querySelectorAll("[data-toggle]")) {
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", pressed);
      const parts = button.closest("figure").querySelectorAll(`[data-curve="${button.dataset.toggle}"]`);
      for (const part of parts) part.classList.toggle("off", !pressed);
    });
  }
}

const viewer = {
  key: null, index: null, matches: [], shown: 0, current: null,

  async open(key) {
    this.key = key;
    this.index = await unpacked(`${key}-index`);
    const {policies} = this.index;
    const natural = Math.max(0, policies.indexOf("auto"));
    for (const [id, chosen] of [["before", natural], ["after", this.mostChanged(natural)]]) {
      byId(id).replaceChildren(...policies.map((name, number) => new Option(plain(name), number, false, number === chosen)));
    }
    this.filter();
    await this.first();
  },

  async first() {
    this.current = null;
    byId("sample").replaceChildren();
    if (this.matches.length) await this.show(this.matches[0]);
  },

  letter(unit, policy) { return this.index.verdicts[unit * this.index.policies.length + policy]; },
  get before() { return Number(byId("before").value); },
  get after() { return Number(byId("after").value); },

  // The policy that wins most over another: what one wants to see first.
  mostChanged(from) {
    const won = this.index.policies.map((_, policy) =>
      this.index.units.reduce((sum, _, unit) => sum + (this.letter(unit, from) !== "c" && this.letter(unit, policy) === "c"), 0));
    return won.indexOf(Math.max(...won));
  },

  filter() {
    const {index, before, after} = this;
    const wanted = document.querySelector("#filter input:checked")?.value ?? "all";
    const search = byId("search").value.toLowerCase();
    const counts = Object.fromEntries(FILTERS.map(([name]) => [name, 0]));
    this.matches = [];
    index.units.forEach(([item], unit) => {
      if (search && !index.items[item].toLowerCase().includes(search)) return;
      const pair = [this.letter(unit, before), this.letter(unit, after)];
      for (const [name, , test] of FILTERS) {
        if (!test(...pair)) continue;
        counts[name] += 1;
        if (name === wanted) this.matches.push(unit);
      }
    });
    const chips = FILTERS.map(([name, title]) => {
      const box = element("input");
      Object.assign(box, {type: "radio", name: "filter", value: name, checked: name === wanted});
      return element("label", "chip", box, `${title} · ${counts[name].toLocaleString("en")}`);
    });
    const had = document.activeElement?.name === "filter";
    byId("filter").replaceChildren(element("legend", "", "show"), ...chips);
    if (had) document.querySelector("#filter input:checked").focus();
    const of = index.units.length.toLocaleString("en");
    byId("matches").textContent = `${this.matches.length.toLocaleString("en")} of ${of} samples`;
    byId("units").replaceChildren();
    this.shown = 0;
    this.more();
  },

  more() {
    const next = this.matches.slice(this.shown, this.shown + SHOWN_AT_ONCE);
    const several = this.index.units.some(([, sample]) => sample > 0);
    for (const unit of next) {
      const [item, sample] = this.index.units[unit];
      const name = plain(this.index.items[item]) + (several ? ` · ${sample}` : "");
      const turn = [this.letter(unit, this.before), this.letter(unit, this.after)];
      const marks = element("span", "turn", ...turn.flatMap((letter, place) =>
        [...(place ? [" → "] : []), element("span", VERDICTS[letter], GLYPHS[letter])]));
      marks.setAttribute("aria-label", turn.map((letter) => WORDS[VERDICTS[letter]]).join(", then "));
      const button = element("button", "", element("span", "id", name), marks);
      button.type = "button";
      button.dataset.unit = unit;
      byId("units").append(element("li", "", button));
    }
    this.shown += next.length;
    byId("more").hidden = this.shown >= this.matches.length;
  },

  async show(unit) {
    this.current = unit;
    for (const other of byId("units").querySelectorAll("button")) {
      other.setAttribute("aria-current", other.dataset.unit === String(unit));
    }
    const [item, sample] = this.index.units[unit];
    const name = this.index.items[item];
    const several = this.index.units.some(([, number]) => number > 0);
    const heading = element("h3", "", written(name), several ? ` · sample ${sample}` : "");
    const script = byId(`${this.key}-${unit}`);
    const content = script ? this.tree(await unpacked(script.id)) : this.elsewhere(name, unit);
    if (this.current === unit) byId("sample").replaceChildren(heading, ...content);
  },

  // What can be said of a sample whose traces are not in the page.
  elsewhere(name, unit) {
    const quoted = `'${name.replaceAll("'", "'\\''")}'`;
    const command = `${byId("command").dataset.command} --item ${plain(quoted)}`;
    const verdicts = this.index.policies.map((policy, number) => {
      const verdict = VERDICTS[this.letter(unit, number)];
      return element("tr", "", element("td", "", this.policy(number)), element("td", verdict, WORDS[verdict]));
    });
    return [
      element("p", "elsewhere", "Its traces are not in this page, which holds a selection. This command writes a page that has them: ", element("code", "", command)),
      element("div", "scroll", element("table", "", ...verdicts)),
    ];
  },

  policy(number) {
    const chosen = number === this.before || number === this.after;
    return element("span", chosen ? "policy chosen" : "policy", plain(this.index.policies[number]));
  },

  tree(record) {
    const found = [];
    if (record.question) found.push(element("div", "question", written(record.question)));
    found.push(element("p", "gold", "Right answer: ", element("bdi", "", written(record.gold))));
    const numbers = record.rows.map((row) => this.index.policies.indexOf(row.policy));
    const answers = record.answers.map((answer) => this.answer(answer, record, numbers));
    if (record.note) found.push(element("p", "elsewhere", written(record.note)));
    if (!record.branches.length) found.push(element("div", "answers", ...answers));
    const inside = this.inside(record);
    const drawn = record.branches.map((branch, number) => this.branch(branch, number, record, answers, inside[number], numbers));
    const within = (record.searches ?? []).map((search) => this.search(record, search, drawn, numbers));
    record.branches.forEach((branch, number) => {
      if (branch.parent !== null) drawn[branch.parent].append(drawn[number]);
      else if (branch.search === undefined) found.push(drawn[number]);
    });
    found.push(...within);
    found.push(...this.accounts(record, numbers));
    return found;
  },

  // A search: its picture, and its steps with what they say.
  search(record, search, drawn, numbers) {
    const votes = record.answers.filter(({branch}) => branch >= search.first && branch < search.first + search.steps).length;
    const made = element("details", "search");
    const count = (number, name) => `${number.toLocaleString("en")} ${name}${number === 1 ? "" : "s"}`;
    made.append(element("summary", "", this.policy(numbers[search.row]), ` ${count(search.steps, "step")}, ${count(votes, "trace")} kept, vote: ${search.vote}`));
    made.open = [this.before, this.after].includes(numbers[search.row]);
    const steps = element("details", "steps", element("summary", "", "What each step says"));
    for (let number = search.first; number < search.first + search.steps; number += 1) {
      if (record.branches[number].parent === null) steps.append(drawn[number]);
    }
    made.append(searchTree(record, search, (number) => {
      for (let at = drawn[number]; at; at = at.parentElement.closest("details")) if (at.tagName === "DETAILS") at.open = true;
      drawn[number].scrollIntoView({block: "nearest"});
    }), element("p", "note", "Each mark is a step, the darker the better it was scored; those without a line on were given up. Squares are traces that were kept, with their answers; the framed one stands for what was elected."), steps);
    return made;
  },

  // Of each branch, the policies that end on it or beyond it: numbers of rows.
  inside(record) {
    const found = record.branches.map(() => []);
    for (const answer of record.branches.length ? record.answers : []) {
      for (let at = answer.branch; at !== null; at = record.branches[at].parent) found[at].push(...answer.policies);
    }
    return found;
  },

  // A branch with what leaves it. Those that lead to neither of the two policies are folded.
  branch(branch, number, record, answers, inside, numbers) {
    const range = `tokens ${branch.start.toLocaleString("en")} – ${(branch.start + branch.tokens).toLocaleString("en")}`;
    const step = branch.search !== undefined;
    const fixed = branch.parent === null && !step;
    const made = element(fixed ? "div" : "details", "branch");
    const header = element(fixed ? "header" : "summary");
    if (step) header.append(element("span", "injected", `score ${branch.score.toFixed(3)}`), element("span", "", branch.children ? `${branch.children} go on` : branch.cuts.length ? "kept" : "given up"));
    else if (branch.parent === null) header.append(element("strong", "", branch.wish ? `Thinking, asked: ${branch.wish}` : "Thinking"));
    else if (branch.string) header.append(element("span", "injected", written(branch.string)), element("span", "", "injected at the natural end"));
    else header.append(element("span", "injected", "no end"), element("span", "", "nothing injected, the natural end forbidden"));
    header.append(element("span", "", range));
    if (branch.parent !== null && !step) {
      const ends = [...inside].sort((one, other) => one - other).map((row) => {
        const verdict = record.rows[row].verdict;
        const glyph = GLYPHS[Object.keys(VERDICTS).find((letter) => VERDICTS[letter] === verdict)];
        return element("span", `mini ${verdict}`, `${plain(record.rows[row].policy)} ${glyph}`);
      });
      header.append(element("span", "ends", ...ends));
      made.open = inside.some((row) => numbers[row] === this.before || numbers[row] === this.after);
    }
    const text = element("pre", "thinking");
    text.tabIndex = 0;
    text.setAttribute("role", "region");
    text.setAttribute("aria-label", branch.string ? `Thinking after ${plain(branch.string)}` : "Thinking");
    const cards = element("div", "answers");
    branch.parts.forEach((part, place) => {
      text.append(written(part));
      if (place >= branch.cuts.length) return;
      const at = branch.cuts[place];
      record.answers.forEach((answer, which) => {
        if (answer.branch !== number || answer.at !== at) return;
        const mark = element("button", `cut ${answer.end}`, answer.end === "natural" ? `end ${at.toLocaleString("en")}` : `✂ ${at.toLocaleString("en")}`);
        mark.type = "button";
        mark.title = "its answer";
        mark.addEventListener("click", () => { answers[which].focus({preventScroll: true}); answers[which].scrollIntoView({block: "nearest"}); });
        text.append(mark);
        cards.append(answers[which]);
      });
    });
    if (branch.ended && !branch.cuts.includes(branch.start + branch.tokens)) text.append(element("span", "cut natural", `end ${(branch.start + branch.tokens).toLocaleString("en")}`));
    made.append(header, text, cards);
    return made;
  },

  answer(answer, record, numbers) {
    const row = record.rows[answer.policies[0]];
    const voted = answer.score !== undefined && !answer.elected;  // it has no verdict of its own
    const card = element("div", voted ? "answer" : `answer is-${row.verdict}`);
    card.tabIndex = -1;
    const line = element("p", "");
    if (answer.end) line.append(`${ENDS[answer.end] ?? answer.end} at ${answer.at.toLocaleString("en")}`);
    for (const policy of answer.policies) line.append(this.policy(numbers[policy]));
    const said = row.extracted === null ? "" : `${plain(row.extracted.slice(0, 60))} · `;
    if (voted) line.append(element("span", "verdict", `a vote of ${answer.score.toFixed(3)}`));
    else line.append(element("span", `verdict ${row.verdict}`, element("bdi", "", said), WORDS[row.verdict]));
    card.append(line);
    if (answer.text === null) card.append(element("pre", "", "not made to answer"));
    else card.append(element("pre", "", written(answer.text.replace(/^\n/, ""))));
    return card;
  },

  accounts(record, numbers) {
    const columns = ["policy", "thinking", "injected", "answer", "thinking ended", "answer ended", "found by", "found", "verdict", "remarks"];
    const head = element("tr", "", ...columns.map((name, place) => element("th", place > 0 && place < 4 ? "n" : "", name)));
    const rows = record.rows.map((row, place) => {
      const remarks = [
        row.extensions_skipped ? `${row.extensions_skipped} extension had no room` : "",
        row.continued ? "thought on in its answer" : "",
        row.tries > 1 ? `took sample ${row.taken ?? "?"} after ${row.tries} tries` : "",
      ].filter(Boolean).join("; ");
      const cells = [row.thinking_tokens, row.injected_tokens, row.answer_tokens].map((tokens) => element("td", "n", tokens.toLocaleString("en")));
      const found = element("bdi", "", plain((row.extracted ?? "").slice(0, 60)));
      return element("tr", "", element("td", "", this.policy(numbers[place])), ...cells, element("td", "", row.thinking_end), element("td", "", row.answer_end),
        element("td", "", row.rule), element("td", "", found), element("td", row.verdict, WORDS[row.verdict]), element("td", "", remarks));
    });
    const box = element("div", "scroll", element("table", "", element("thead", "", head), element("tbody", "", ...rows)));
    box.tabIndex = 0;
    return [element("h4", "", "The account of every policy"), box];
  },
};

async function start() {
  tips();
  byId("viewer").hidden = false;
  byId("task").addEventListener("change", () => viewer.open(byId("task").value));
  for (const id of ["before", "after", "filter"]) byId(id).addEventListener("change", () => { viewer.filter(); viewer.first(); });
  byId("search").addEventListener("input", () => { viewer.filter(); viewer.first(); });
  byId("more").addEventListener("click", () => viewer.more());
  document.querySelector(".controls").addEventListener("submit", (event) => event.preventDefault());
  byId("units").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) viewer.show(Number(button.dataset.unit));
  });
  byId("units").addEventListener("keydown", (event) => {
    const step = {ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling"}[event.key];
    const next = step && event.target.closest("li")?.[step]?.firstElementChild;
    if (!next) return;
    event.preventDefault();
    next.focus();
    viewer.show(Number(next.dataset.unit));
  });
  await viewer.open(byId("task").value);
}

start();
