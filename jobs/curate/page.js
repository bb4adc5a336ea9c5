"use strict";
// Rows come as base64 of JSON and are set as text: nothing in them is ever read as HTML.
const packed = JSON.parse(document.getElementById("rows").textContent);
const rows = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(packed), (c) => c.charCodeAt(0))));
const fate = document.getElementById("fate");
const search = document.getElementById("search");
const viewer = document.getElementById("viewer");
for (const name of ["all fates", ...new Set(rows.map((row) => row.fate))]) fate.append(new Option(name));
const AT_ONCE = 50;

function part(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function show() {
  const wanted = search.value.toLowerCase();
  const found = rows.filter((row) => (fate.selectedIndex === 0 || row.fate === fate.value)
    && (!wanted || Object.values(row).some((text) => text.toLowerCase().includes(wanted))));
  document.getElementById("count").textContent = `${found.length} rows` + (found.length > AT_ONCE ? `, the first ${AT_ONCE} shown` : "");
  viewer.replaceChildren(...found.slice(0, AT_ONCE).map((row) => {
    const article = document.createElement("article");
    const about = [row.fate === "kept" ? "kept" : `${row.fate}: ${row.reason}`, row.source, row.domain, `length ${row.length}`];
    article.append(part("header", about.filter(Boolean).join(" · ")), part("pre", row.question));
    const more = document.createElement("details");
    more.append(part("summary", "trace and answer"), part("pre", row.trace), part("pre", row.answer));
    article.append(more);
    return article;
  }));
}

fate.addEventListener("change", show);
search.addEventListener("input", show);
show();
