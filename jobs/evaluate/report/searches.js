// A search drawn: its steps from left to right, level by level, with what they were scored and what became of them.

const SVG = "http://www.w3.org/2000/svg";
const LEVEL = 96, ROW = 22, MARGIN = 14;

function shaped(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Of each step of a search: its level, and its row. A step is level with the first of its children.
function laidOut(branches, first, steps) {
  const places = new Map();
  const below = new Map();
  let rows = 0;
  for (let number = first; number < first + steps; number += 1) {
    const parent = branches[number].parent;
    if (!below.has(parent)) below.set(parent, []);
    below.get(parent).push(number);
  }
  const place = (number, level) => {
    const children = below.get(number) ?? [];
    const own = {level, row: rows};
    if (!children.length) rows += 1;
    for (const child of children) place(child, level + 1);
    places.set(number, own);
  };
  for (const root of below.get(null) ?? []) place(root, 0);
  return {places, rows, levels: Math.max(0, ...[...places.values()].map(({level}) => level)) + 1};
}

// The picture; `go` is called with the number of the step that is clicked.
function searchTree(record, search, go) {
  const {branches} = record;
  const {places, rows, levels} = laidOut(branches, search.first, search.steps);
  const numbers = [...places.keys()].sort((one, other) => one - other);
  const scores = numbers.map((number) => branches[number].score);
  const low = Math.min(0, ...scores), high = Math.max(1, ...scores);
  const leaves = new Map(record.answers.filter(({branch}) => places.has(branch)).map((answer) => [answer.branch, answer]));
  const kept = new Set();  // steps of the traces that vote
  for (const leaf of leaves.keys()) for (let step = leaf; step !== null && !kept.has(step); step = branches[step].parent) kept.add(step);
  const at = (number) => [MARGIN + 10 + places.get(number).level * LEVEL, MARGIN + places.get(number).row * ROW];
  const width = 2 * MARGIN + (levels - 1) * LEVEL + 250, height = 2 * MARGIN + Math.max(0, rows - 1) * ROW;
  const edges = shaped("g", {class: "edges"}), nodes = shaped("g", {});
  for (const number of numbers) {
    const branch = branches[number], [x, y] = at(number), leaf = leaves.get(number);
    if (branch.parent !== null) {
      const [fromX, fromY] = at(branch.parent), middle = fromX + LEVEL / 2;
      edges.append(shaped("path", {d: `M${fromX} ${fromY}C${middle} ${fromY} ${middle} ${y} ${x} ${y}`, class: kept.has(number) ? "kept" : ""}));
    }
    const verdict = leaf?.elected ? record.rows[search.row].verdict : "";
    const fate = leaf ? (leaf.elected ? `elected ${verdict}` : "votes") : branch.children ? "expanded" : "given-up";
    const said = plain(branch.parts.join("").trim().slice(-160));
    const words = {expanded: `${branch.children} go on from it`, "given-up": "given up", votes: "its answer has a vote"}[fate] ?? "elected";
    const group = shaped("g", {class: `step ${fate}`, transform: `translate(${x} ${y})`, "data-tip": `score ${branch.score.toFixed(3)}, ${words}: ${said}`, tabindex: 0, role: "button", "aria-label": `step of score ${branch.score.toFixed(2)}, ${words}`});
    const fill = {"fill-opacity": (0.12 + 0.88 * (branch.score - low) / (high - low)).toFixed(2)};
    group.append(leaf ? shaped("rect", {x: -7, y: -7, width: 14, height: 14, rx: 2, ...fill}) : shaped("circle", {r: 7, ...fill}));
    group.append(shaped("text", {x: 11, y: 4}, branch.score.toFixed(2), ...(leaf ? [` · ${plain(briefly(leaf.text))}`] : [])));
    group.addEventListener("click", () => go(number));
    group.addEventListener("keydown", (event) => { if (event.key === "Enter") go(number); });
    nodes.append(group);
  }
  const picture = shaped("svg", {class: "searched", width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "The search"}, edges, nodes);
  const box = element("div", "scroll", picture);
  box.tabIndex = 0;
  return box;
}

const briefly = (text) => {
  const line = (text ?? "").trim().split("\n").pop();
  return line.length > 34 ? `…${line.slice(-33)}` : line;
};
