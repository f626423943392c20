// The table of series: a click on a heading sorts, a click on a verdict shows its series alone.
const body = document.querySelector('#series tbody'), heads = [...document.querySelectorAll('#series thead th')];
heads.forEach((head, column) => head.onclick = () => {
  const down = head.getAttribute('aria-sort') === 'ascending';
  heads.forEach(other => other.removeAttribute('aria-sort'));
  head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  const value = row => row.cells[column].dataset.v;
  const compare = (a, b) => {
    const x = value(a), y = value(b);
    if (x === '' || y === '') return (x === '') - (y === '');  // what is not known goes last, both ways
    const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return down ? -order : order;
  };
  body.append(...[...body.rows].sort(compare));
});
const chips = [...document.querySelectorAll('.chips button')];
chips.forEach(chip => chip.onclick = () => {
  const on = chip.getAttribute('aria-pressed') !== 'true';
  chips.forEach(other => other.setAttribute('aria-pressed', other === chip && on));
  for (const row of body.rows) row.hidden = on && row.dataset.group !== chip.dataset.group;
});
