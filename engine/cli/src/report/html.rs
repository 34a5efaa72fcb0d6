//! A report as one HTML file that loads nothing.
use super::Report;
use super::cards::cards;
use super::tables::{RESULTS, TIME, Table};
use serde_json::Value;
use std::fmt::Write;

/// Bytes that a page may have.
const MOST_BYTES: usize = 1_000_000;

/// Points of a curve at first; fewer where the page would be too large.
const MOST_POINTS: usize = 800;

/// Colours of runs in `page.css`, which begin again behind the last.
const COLOURS: usize = 8;

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
    let heading = match &names[..] {
        [name] => name.clone(),
        names => {
            let dotted = names.iter().enumerate().map(|(run, name)| format!("{}{name}", dot(run)));
            dotted.collect::<Vec<_>>().join(" ")
        }
    };
    let (above, below) = tables(report);
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
<h1>{heading}</h1>
<p class="lead">{lead}</p>
{cards}{above}<div id="controls"></div>
<noscript><p class="note">The curves need JavaScript, which is part of this file; the tables do not.</p></noscript>
<div id="panels"></div>
<div class="blocks{many}">
{below}</div>
<footer>Drag over a curve to look closer, double-click to go back. Written by trainyard {version}.</footer>
<div id="tip"></div>
<svg width="0" height="0" aria-hidden="true"></svg>
<script type="application/json" id="data">{data}</script>
<script>
{SCRIPT}</script>
</body>
</html>
"#,
        lead = lead(report),
        cards = cards_of(report),
        many = if report.runs.len() > 1 { " many" } else { "" },
    )
}

/// How the runs ended, as a word in a colour.
fn lead(report: &Report) -> String {
    let [run] = &report.runs[..] else { return escaped(&report.lead()) };
    let state = run.state();
    let class = match state.as_str() {
        "completed" => "good",
        "failed" => "bad",
        _ => "open",
    };
    let machine = |key: &str| run.summary["machine"][key].as_str().map(escaped);
    let place = [machine("device"), machine("processor")].into_iter().flatten();
    let place = place.collect::<Vec<_>>().join(", ");
    let pill = format!("<span class=\"pill {class}\">{}</span>", escaped(&state));
    if place.is_empty() { pill } else { format!("{pill} on {place}") }
}

/// Of one run, the figures that count, in large.
fn cards_of(report: &Report) -> String {
    let [run] = &report.runs[..] else { return String::new() };
    let cards = cards(run).into_iter().map(|card| {
        let class = if card.fault { "card fault" } else { "card" };
        let (label, value) = (escaped(card.label), escaped(&card.value));
        let detail = escaped(&card.detail);
        format!(
            "<div class=\"{class}\"><span>{label}</span><b>{value}</b><small>{detail}</small></div>\n"
        )
    });
    format!("<div class=\"cards\">\n{}</div>\n", cards.collect::<String>())
}

/// The tables that stand above the curves, and those below.
fn tables(report: &Report) -> (String, String) {
    let one = report.runs.len() == 1;
    let (mut above, mut below) = (String::new(), String::new());
    for table in &report.tables {
        let results = table.title == RESULTS;
        // The cards have its content.
        if results && one {
            continue;
        }
        let folded = table.rows.len() > 24;
        let (open, close) = match folded {
            true => (format!("<details><summary>{}</summary>", escaped(table.title)), "</details>"),
            false => (format!("<h2>{}</h2>", escaped(table.title)), ""),
        };
        let bars = if table.title == TIME { bars(report) } else { String::new() };
        let note = match table.note {
            "" => String::new(),
            note => format!("<p class=\"note\">{}</p>", escaped(note)),
        };
        let to = if results { &mut above } else { &mut below };
        let _ = write!(
            to,
            "<section class=\"block\">{open}\n{bars}<div class=\"scroll\">{}</div>{note}{close}</section>\n",
            table_of(table, one)
        );
    }
    (above, below)
}

fn table_of(table: &Table, one: bool) -> String {
    let row = |cells: &[String], name: &str, dots: bool| -> String {
        let mut html = String::from("<tr>");
        for (index, cell) in cells.iter().enumerate() {
            let name = if index == 0 { "th" } else { name };
            let dot = if dots && index > 0 { dot(index - 1) } else { String::new() };
            let _ = write!(html, "<{name}>{dot}{}</{name}>", escaped(cell));
        }
        html + "</tr>\n"
    };
    let body: String = table.rows.iter().map(|cells| row(cells, "td", false)).collect();
    // Of one run, its name over its only column says nothing.
    let head = match table.by_run && one {
        true => String::new(),
        false => format!("<thead>{}</thead>\n", row(&table.head, "th", table.by_run)),
    };
    format!("<table>\n{head}<tbody>{body}</tbody>\n</table>")
}

/// A run's colour.
fn dot(run: usize) -> String {
    format!("<i class=\"dot\" style=\"background:var(--c{})\"></i>", run % COLOURS)
}

/// Where each run's time went, as a bar: steps, evaluations, the rest.
fn bars(report: &Report) -> String {
    let one = report.runs.len() == 1;
    let mut html = String::new();
    for (index, run) in report.runs.iter().enumerate().filter(|(_, run)| run.time.total > 0.0) {
        let share = |seconds: f64| (100.0 * seconds / run.time.total).clamp(0.0, 100.0);
        let (steps, evaluations) =
            (share(run.time.steps), share(run.time.evaluations.unwrap_or(0.0)));
        let name = if one { String::new() } else { format!("<span>{}</span>", escaped(&run.name)) };
        let _ = writeln!(
            html,
            "<div class=\"share\" style=\"--run:var(--c{})\">{name}<div class=\"bar\"><span style=\"width:{steps:.2}%\"></span>\
             <span class=\"second\" style=\"width:{evaluations:.2}%\"></span></div></div>",
            index % COLOURS
        );
    }
    html + "<p class=\"note key\"><i></i> in steps <i class=\"second\"></i> in evaluations <i class=\"rest\"></i> between them</p>\n"
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
