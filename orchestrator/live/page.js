"use strict";
// Asks for the page again and puts its main part in the place of this one's. It is the server's own HTML, in which all
// data was escaped; a document that is parsed this way runs no script.

const EVERY = 2000;

async function refresh() {
  try {
    const answer = await fetch(location.href, {cache: "no-store"});
    if (!answer.ok) throw new Error(answer.statusText);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
    document.getElementById("live").replaceWith(document.adoptNode(fresh));
    document.getElementById("lost").hidden = true;
  } catch {
    document.getElementById("lost").hidden = false;
  }
  setTimeout(refresh, EVERY);
}

setTimeout(refresh, EVERY);
