// Of the site alone (mkdocs.yml): tables that scroll sideways are reached with the keyboard, too.
addEventListener("load", () => {
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) table.tabIndex = 0;
});
