// Formulas arrive as \(...\) and \[...\] from pymdownx.arithmatex; KaTeX typesets them in the browser.
document$.subscribe(({ body }) => {
  renderMathInElement(body, {
    delimiters: [
      { left: "\\(", right: "\\)", display: false },
      { left: "\\[", right: "\\]", display: true },
    ],
    throwOnError: false,
  });
});
