//! A report as Markdown, for a pull request.
use super::Report;
use super::tables::Table;

/// The tables, without curves.
pub fn text(report: &Report) -> String {
    let tables = report.tables.iter().map(table);
    format!("{}\n\n{}", escaped(&report.lead()), tables.collect::<Vec<_>>().join("\n"))
}

fn table(Table { title, head, rows, note, .. }: &Table) -> String {
    let row = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|cell| escaped(cell)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule = format!("|{}\n", " --- |".repeat(head.len()));
    let rows: String = rows.iter().map(|cells| row(cells)).collect();
    let note = if note.is_empty() { String::new() } else { format!("\n{note}\n") };
    format!("### {title}\n\n{}{rule}{rows}{note}", row(head))
}

/// Text that is no Markdown and no HTML.
fn escaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' => plain.push(' '),
            '<' => plain.push_str("&lt;"),
            '&' => plain.push_str("&amp;"),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '~' | '!' | '@' => {
                plain.push('\\');
                plain.push(letter);
            }
            letter => plain.push(letter),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_hold_no_markup() {
        let rows = vec![vec!["a|b".to_owned(), "<script>\n`x`".to_owned()]];
        let head = vec![String::new(), "run_1".to_owned()];
        let text = table(&Table { title: "Runs", head, rows, note: "", by_run: true });
        assert_eq!(
            text,
            "### Runs\n\n|  | run\\_1 |\n| --- | --- |\n| a\\|b | &lt;script> \\`x\\` |\n"
        );
    }
}
