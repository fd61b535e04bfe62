"""The page that shows the description of the API. One file of our own: nothing is loaded from anywhere else."""

from __future__ import annotations

import base64
import hashlib

STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:64rem;padding:1.5rem}
h1{margin:0 0 .25rem}h2{margin:2rem 0 .5rem;border-bottom:1px solid var(--line)}
input{font:inherit;width:100%;box-sizing:border-box;padding:.4rem .6rem;margin:1rem 0}
details{border:1px solid var(--line);border-radius:6px;margin:.35rem 0}
summary{cursor:pointer;padding:.4rem .7rem}summary code{overflow-wrap:anywhere}
.inside{padding:0 .9rem .8rem}.roles{float:right;opacity:.7;font-size:.85em}
b.m{display:inline-block;width:4.6em;font:600 .85em ui-monospace,monospace}
pre{background:var(--soft);padding:.6rem;overflow:auto;border-radius:6px}
table{border-collapse:collapse}td,th{border:1px solid var(--line);padding:.15rem .5rem;text-align:left}
"""

SCRIPT = """
'use strict';
const make = (name, text, className) => {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};
const nameOf = reference => reference.split('/').pop();
function outline(schema, all, depth, seen) {
  if (!schema) return 'any';
  if (schema.$ref) {
    const name = nameOf(schema.$ref);
    return seen.includes(name) || depth > 5 ? name : outline(all[name], all, depth, seen.concat(name));
  }
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map(value => JSON.stringify(value)).join(' | ');
  const many = schema.anyOf || schema.oneOf;
  if (many) return many.map(one => outline(one, all, depth, seen)).join(' | ');
  if (schema.type === 'array') return '[' + outline(schema.items, all, depth, seen) + ', ...]';
  if (schema.properties) {
    const pad = '  '.repeat(depth + 1), needed = schema.required || [];
    const lines = Object.entries(schema.properties).map(([name, value]) =>
      pad + JSON.stringify(name) + (needed.includes(name) ? '' : ' ?') + ': ' + outline(value, all, depth + 1, seen));
    return '{\\n' + lines.join(',\\n') + '\\n' + '  '.repeat(depth) + '}';
  }
  if (schema.additionalProperties) return '{name: ' + outline(schema.additionalProperties, all, depth, seen) + '}';
  return schema.type || 'any';
}
function fill(box, operation, all) {
  const inside = make('div', undefined, 'inside');
  box.append(inside);
  if (operation.parameters.length) {
    const table = make('table'), head = make('tr');
    head.append(make('th', 'parameter'), make('th', 'in'));
    table.append(head);
    for (const parameter of operation.parameters) {
      const row = make('tr');
      row.append(make('td', parameter.name + (parameter.required ? '' : ' ?')), make('td', parameter.in));
      table.append(row);
    }
    inside.append(table);
  }
  const body = operation.requestBody ? operation.requestBody.content : {};
  for (const [media, content] of Object.entries(body))
    inside.append(make('h4', 'Body: ' + media), make('pre', outline(content.schema, all, 0, [])));
  for (const [status, answer] of Object.entries(operation.responses)) {
    if (status === 'default') continue;
    if (!answer.content) inside.append(make('h4', 'Answer ' + status));
    for (const [media, content] of Object.entries(answer.content || {}))
      inside.append(make('h4', 'Answer ' + status + ': ' + media), make('pre', outline(content.schema, all, 0, [])));
  }
}
function shown(path, method, operation, all) {
  const box = make('details'), head = make('summary');
  const roles = make('span', operation['x-roles'].join(', '), 'roles');
  head.append(make('b', method.toUpperCase(), 'm'), make('code', path), document.createTextNode('  ' + operation.summary), roles);
  box.append(head);
  box.dataset.text = (method + ' ' + path + ' ' + operation.summary).toLowerCase();
  box.addEventListener('toggle', () => {
    if (!box.open || box.dataset.done) return;
    box.dataset.done = '1';
    fill(box, operation, all);
  });
  return box;
}
fetch('openapi.json').then(response => response.json()).then(api => {
  document.getElementById('version').textContent = api.info.version;
  document.getElementById('about').textContent = api.info.description;
  const groups = new Map(), root = document.getElementById('routes');
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(shown(path, method, operation, api.components.schemas));
    }
  for (const [tag, boxes] of groups) {
    const part = make('section');
    part.append(make('h2', tag), ...boxes);
    root.append(part);
  }
  document.getElementById('find').addEventListener('input', typed => {
    const wanted = typed.target.value.toLowerCase();
    document.querySelectorAll('details').forEach(box => { box.hidden = !box.dataset.text.includes(wanted); });
    document.querySelectorAll('section').forEach(part => { part.hidden = !part.querySelector('details:not([hidden])'); });
  });
});
"""

PAGE = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>Foldline API</title>
<style>{STYLE}</style></head>
<body><h1>Foldline API <small id="version"></small></h1><p id="about"></p>
<input id="find" type="search" placeholder="Find a route" aria-label="Find a route"><main id="routes"></main>
<script>{SCRIPT}</script></body></html>
""".encode()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; script-src {_hash(SCRIPT)}; style-src {_hash(STYLE)}; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
