//! A report as one HTML file that loads nothing.
use super::Report;
use super::tables::Table;
use serde_json::Value;
use std::fmt::Write;

/// Bytes that a page may have.
const MOST_BYTES: usize = 1_000_000;

/// Points of a curve at first; fewer where the page would be too large.
const MOST_POINTS: usize = 800;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page.
pub fn page(report: &Report) -> String {
    let mut points = MOST_POINTS;
    loop {
        let page = page_of(report, points);
        if page.len() < MOST_BYTES || points < 20 {
            return page;
        }
        points /= 2;
    }
}

fn page_of(report: &Report, points: usize) -> String {
    let names: Vec<_> = report.runs.iter().map(|run| escaped(&run.name)).collect();
    let title = names.join(", ");
    let (cards, tables) = (cards(report), tables(report));
    let data = embedded(&report.data(points));
    let version = env!("CARGO_PKG_VERSION");
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>
{STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p class="lead">{lead}</p>
{cards}<div id="controls"></div>
<noscript><p class="note">The curves need JavaScript, which is part of this file; the tables below do not.</p></noscript>
<div id="panels"></div>
{tables}<footer>Drag over a curve to look closer, double-click to go back. Written by trainyard {version}.</footer>
<div id="tip"></div>
<svg width="0" height="0" aria-hidden="true"></svg>
<script type="application/json" id="data">{data}</script>
<script>
{SCRIPT}</script>
</body>
</html>
"#,
        lead = escaped(&report.lead()),
    )
}

/// Of one run, the figures that count, in large.
fn cards(report: &Report) -> String {
    let [_] = &report.runs[..] else { return String::new() };
    let Some(results) = report.tables.first() else { return String::new() };
    let cards = results.rows.iter().map(|row| {
        format!(
            "<div class=\"card\"><b>{}</b><span>{}</span></div>\n",
            escaped(&row[1]),
            escaped(&row[0])
        )
    });
    format!("<div class=\"cards\">\n{}</div>\n", cards.collect::<String>())
}

fn tables(report: &Report) -> String {
    // The cards have the first one's content.
    let skip = usize::from(report.runs.len() == 1);
    let mut html = String::new();
    for table in report.tables.iter().skip(skip) {
        let folded = table.rows.len() > 24;
        let (open, close) = match folded {
            true => (format!("<details><summary>{}</summary>", escaped(table.title)), "</details>"),
            false => (format!("<h2>{}</h2>", escaped(table.title)), ""),
        };
        let bars = if table.title == super::tables::TIME { bars(report) } else { String::new() };
        let note = match table.note {
            "" => String::new(),
            note => format!("<p class=\"note\">{}</p>", escaped(note)),
        };
        let _ = write!(
            html,
            "<section class=\"block\">{open}\n{bars}<div class=\"scroll\">{}</div>{note}{close}</section>\n",
            table_of(table)
        );
    }
    if skip == 1
        && let Some(note) = report.tables.first().map(|table| table.note).filter(|n| !n.is_empty())
    {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", escaped(note));
    }
    html
}

fn table_of(table: &Table) -> String {
    let row = |cells: &[String], first: &str, rest: &str| -> String {
        let mut html = String::from("<tr>");
        for (index, cell) in cells.iter().enumerate() {
            let name = if index == 0 { first } else { rest };
            let _ = write!(html, "<{name}>{}</{name}>", escaped(cell));
        }
        html + "</tr>\n"
    };
    let body: String = table.rows.iter().map(|cells| row(cells, "th", "td")).collect();
    let head = row(&table.head, "th", "th");
    format!("<table>\n<thead>{head}</thead>\n<tbody>{body}</tbody>\n</table>")
}

/// Where each run's time went, as a bar: steps, evaluations, the rest.
fn bars(report: &Report) -> String {
    let mut html = String::new();
    for run in report.runs.iter().filter(|run| run.time.total > 0.0) {
        let share = |seconds: f64| (100.0 * seconds / run.time.total).clamp(0.0, 100.0);
        let (steps, evaluations) =
            (share(run.time.steps), share(run.time.evaluations.unwrap_or(0.0)));
        let name = escaped(&run.name);
        let _ = writeln!(
            html,
            "<div class=\"share\"><span>{name}</span><div class=\"bar\"><span style=\"width:{steps:.2}%;background:var(--c0)\"></span>\
             <span style=\"width:{evaluations:.2}%;background:var(--c1)\"></span></div></div>"
        );
    }
    html + "<p class=\"note\"><i class=\"c0\"></i> in steps <i class=\"c1\"></i> in evaluations</p>\n"
}

/// Text as HTML shows it, in elements and in quoted attributes.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            letter => html.push(letter),
        }
    }
    html
}

/// JSON that may stand in a script element: nothing in it ends the element or begins a comment.
fn embedded(data: &Value) -> String {
    data.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_stays_text() {
        assert_eq!(escaped("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
        let data = json!({ "</script><!--": "&amp;" });
        let text = embedded(&data);
        assert!(!text.contains(['<', '>', '&']), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), data);
    }
}
