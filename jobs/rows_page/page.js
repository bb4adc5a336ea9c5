"use strict";
// Rows come as base64 of JSON and are set as text: nothing in them is ever read as HTML.
const packed = JSON.parse(document.getElementById("rows").textContent);
const rows = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(packed), (c) => c.charCodeAt(0))));
const step = document.getElementById("step");
const fate = document.getElementById("fate");
const search = document.getElementById("search");
const viewer = document.getElementById("viewer");
for (const name of ["all steps", ...new Set(rows.map((row) => row.step))]) step.append(new Option(name));
for (const name of ["all fates", ...new Set(rows.map((row) => row.fate))]) fate.append(new Option(name));
step.hidden = step.length < 3;
const AT_ONCE = 50;

function part(tag, text) {
  const made = document.createElement(tag);
  // Characters that turn the text around them are shown by number, as the rest of the page does.
  made.textContent = text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g,
    (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
  return made;
}

function show() {
  const wanted = search.value.toLowerCase();
  const found = rows.filter((row) => (step.selectedIndex === 0 || row.step === step.value)
    && (fate.selectedIndex === 0 || row.fate === fate.value)
    && (!wanted || [...row.about, ...row.texts.map((text) => text[1])].some((text) => text.toLowerCase().includes(wanted))));
  document.getElementById("count").textContent = `${found.length} rows` + (found.length > AT_ONCE ? `, the first ${AT_ONCE} shown` : "");
  viewer.replaceChildren(...found.slice(0, AT_ONCE).map((row) => {
    const article = document.createElement("article");
    const [question, ...texts] = row.texts;
    article.append(part("header", (step.hidden ? row.about : [row.step, ...row.about]).join(" · ")), part("pre", question[1]));
    const more = document.createElement("details");
    more.append(part("summary", texts.map((text) => text[0]).join(", ")));
    for (const text of texts) more.append(part("pre", text[1]));
    article.append(more);
    return article;
  }));
}

for (const each of [step, fate]) each.addEventListener("change", show);
search.addEventListener("input", show);
show();
