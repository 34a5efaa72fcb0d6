//! `trainyard report`.
use crate::{Ran, configuration, folder, python, trainyard, write};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A page's curves.
fn data(page: &str) -> Value {
    let begin = r#"<script type="application/json" id="data">"#;
    let (_, rest) = page.split_once(begin).expect("the page has data");
    let (data, _) = rest.split_once("</script>").expect("they end");
    serde_json::from_str(data).expect("JSON")
}

fn report(path: &Path, arguments: &[&str]) -> Ran {
    let ran = trainyard(path, &[&["report"], arguments].concat());
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    ran
}

fn column(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

/// Whether the page is well formed and loads nothing, by Python's own parser.
const WELL_FORMED: &str = r#"
import html.parser, sys
VOID = {"meta", "link", "img", "br", "hr", "input"}
class Parser(html.parser.HTMLParser):
    open, texts = [], []
    def handle_starttag(self, tag, attributes):
        assert tag not in ("link", "img", "iframe", "object", "base", "form"), tag
        for name, value in attributes:
            assert name not in ("src", "href", "srcset", "action") and not name.startswith("on"), (tag, name)
        if tag not in VOID:
            self.open.append(tag)
    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, (tag, self.open)
    def handle_data(self, text):
        self.texts.append(text)
text = open(sys.argv[1], encoding="utf-8").read()
parser = Parser()
parser.feed(text)
parser.close()
assert not parser.open, parser.open
assert "http://" not in text and "https://" not in text and "@import" not in text and "url(h" not in text
assert len(text.encode()) < 1_000_000
for name in sys.argv[2:]:
    assert name in parser.texts, name
"#;

fn check_page(folder: &Path, page: &str, names: &[&str]) {
    write(folder, "well_formed.py", WELL_FORMED);
    let mut python = python(&folder.join("well_formed.py"));
    let checked = python.arg(folder.join(page)).args(names).output().expect("Python starts");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn a_page_has_every_value_of_the_log() {
    let folder = folder();
    let path = folder.path();
    let ran = trainyard(path, &["train", "--config", "run.json", "--output", "runs/<script>"]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let other = ["--set", "optimizer.params.lr=0.003", "--output", "runs/b"];
    let ran = trainyard(path, &[&["train", "--config", "run.json"][..], &other].concat());
    assert_eq!(ran.status, Some(0), "{ran:#?}");

    let ran = report(path, &["runs/<script>", "runs/b"]);
    assert_eq!(ran.stdout, "report.html\n");
    check_page(path, "report.html", &["<script>", "b", "optimizer.params.lr", "0.003"]);
    let page = fs::read_to_string(path.join("report.html")).expect("a page");
    assert!(!page.contains("<script><"), "the name is text");
    let data = data(&page);
    assert_eq!(data["runs"][0]["name"], "<script>");
    for (index, output) in ["runs/<script>", "runs/b"].into_iter().enumerate() {
        let log = fs::read_to_string(path.join(output).join("steps.jsonl")).expect("a log");
        let lines: Vec<Value> =
            log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let steps = &data["runs"][index]["steps"];
        assert_eq!(column(&steps["at"]["step"]), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(column(&steps["at"]["samples"]), [4.0, 8.0, 12.0, 16.0, 20.0, 24.0]);
        assert_eq!(column(&steps["at"]["tokens"])[5], 24.0 * 16.0);
        let seconds = column(&steps["at"]["seconds"]);
        assert!(seconds.is_sorted() && seconds[0] > 0.0, "{seconds:?}");
        for key in ["loss", "lr", "theta", "realised_depth", "samples_per_second"] {
            let logged = lines.iter().filter_map(|line| line[key].as_f64());
            let (logged, shown) = (logged.collect::<Vec<_>>(), column(&steps["of"][key]));
            assert_eq!(logged.len(), shown.len(), "{key}");
            for (logged, shown) in logged.iter().zip(shown) {
                assert!((logged - shown).abs() <= 1e-6 * logged.abs(), "{key}: {logged}, {shown}");
            }
        }
        let evaluations = &data["runs"][index]["evaluations"];
        assert_eq!(column(&evaluations["at"]["step"]), [4.0, 6.0]);
        let losses = column(&evaluations["of"]["validation_loss"]);
        let logged = lines.iter().filter_map(|line| line["validation_loss"].as_f64());
        let logged: Vec<_> = logged.collect();
        assert_eq!(logged.len(), losses.len());
        for (logged, shown) in logged.iter().zip(losses) {
            assert!((logged - shown).abs() <= 1e-6 * logged, "{logged}, {shown}");
        }
    }
    let titles: Vec<_> =
        data["panels"].as_array().unwrap().iter().map(|panel| &panel["title"]).collect();
    for title in ["Loss", "Throughput, samples a second", "Theta", "Depth, layers that ran"] {
        assert!(titles.iter().any(|found| *found == title), "{title} is not in {titles:?}");
    }
}

#[test]
fn a_run_that_was_killed_is_shown_as_far_as_it_came() {
    let folder = folder();
    let path = folder.path();
    fs::create_dir(path.join("killed")).expect("a folder");
    let line = |step: u64, loss: Value, skipped: bool| {
        let reason = if skipped { json!("non_finite") } else { Value::Null };
        json!({ "step": step, "loss": loss, "seconds": 0.5, "skipped": skipped, "skip_reason": reason })
            .to_string()
            + "\n"
    };
    let log =
        line(0, json!(2.5), false) + &line(1, Value::Null, true) + &line(1, json!(2.25), false);
    write(path, "killed/steps.jsonl", &(log + "{\"step\":2,\"lo"));
    let ran = report(path, &["killed", "--format", "json"]);
    let data: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let run = &data["runs"][0];
    assert_eq!(run["ended"], "under way, or killed");
    assert_eq!(run["steps"]["of"]["loss"], json!([2.5, 2.25]));
    assert_eq!(run["marks"][0]["text"], "skipped: non finite");
    assert_eq!(run["summary"], Value::Null);
    report(path, &["killed", "--output", "a.html"]);
    check_page(path, "a.html", &["killed", "skipped: non finite", "under way, or killed"]);
    let ran = report(path, &["killed", "--format", "md"]);
    assert!(ran.stdout.contains("| killed | 1 | skipped: non finite |"), "{ran:#?}");
}

/// A long log with many figures, and a configuration that somebody wrote a book into.
#[test]
fn a_page_stays_small() {
    let folder = folder();
    let path = folder.path();
    for name in ["a", "b", "c"] {
        fs::create_dir(path.join(name)).expect("a folder");
        let lines = (0..5000).map(|step| {
            let mut line =
                json!({ "step": step, "loss": 1.0 / (step as f64 + 0.37), "seconds": 0.1 });
            for figure in 0..60 {
                line[format!("figure_{figure}")] = json!((step as f64 * 0.7).sin() + figure as f64);
            }
            line.to_string() + "\n"
        });
        write(path, &format!("{name}/steps.jsonl"), &lines.collect::<String>());
        let mut config = configuration();
        config["note"] = json!("</script><b>".repeat(50_000));
        let summary = json!({ "ended": "completed", "seconds": 600, "configuration": config });
        write(path, &format!("{name}/summary.json"), &summary.to_string());
    }
    report(path, &["a", "b", "c", "--output", "all.html"]);
    check_page(path, "all.html", &["a", "b", "c"]);
    let page = fs::read_to_string(path.join("all.html")).expect("a page");
    let steps = data(&page)["runs"][2]["steps"].clone();
    let last = column(&steps["at"]["step"]).pop();
    assert_eq!(last, Some(5000.0), "the end is shown");
}

/// Moves the pointer over the first panel and clicks on a button; what the page shows then is in its DOM.
const POINTER: &str = r##"<script>
const panel = document.querySelector("#panels svg[role=img]"), box = panel.getBoundingClientRect();
const at = { clientX: box.left + box.width - 5, clientY: box.top + 90, bubbles: true };
panel.dispatchEvent(new PointerEvent("pointermove", at));
const seen = document.createElement("pre");
seen.id = "seen";
const curves = () => document.querySelectorAll("#panels .curve").length;
const [before, shown] = [curves(), document.getElementById("tip").style.visibility];
document.querySelector("#controls button").click();
const overflows = document.documentElement.scrollWidth > innerWidth;
seen.textContent = JSON.stringify({ tip: document.getElementById("tip").innerText, shown, before, after: curves(), overflows });
document.body.append(seen);
</script></body>"##;

/// What a browser without a window makes of a page, and what it says on its console; none where there is no browser.
fn browsed(folder: &Path, page: &str, width: u32) -> Option<(String, Vec<String>)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|place| place.join("chromium"));
    let Some(chromium) = places.find(|place| place.is_file()) else {
        println!("skipped: there is no chromium");
        return None;
    };
    let profile = tempfile::tempdir().expect("a temporary folder");
    // A page that hangs is ended.
    let mut browser = std::process::Command::new("timeout");
    browser.arg("120").arg(chromium);
    let flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
                 --disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=3000";
    browser.args(flags.split_whitespace()).arg(format!("--window-size={width},900"));
    browser.arg(format!("--user-data-dir={}", profile.path().display())).arg("--dump-dom");
    let ran = browser.arg(folder.join(page)).output().expect("the browser starts");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    let console = said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned);
    Some((String::from_utf8_lossy(&ran.stdout).into_owned(), console.collect()))
}

#[test]
fn a_browser_shows_curves_and_values() {
    let folder = folder();
    let path = folder.path();
    let hostile = r#"</script><script>console.log("run")</script>"#;
    let names = ["a", "<img src=x onerror=console.log(1)>"];
    for (run, name) in names.into_iter().enumerate() {
        fs::create_dir(path.join(name)).expect("a folder");
        let lines = (0..100).map(|step| {
            let line = json!({ "step": step, "loss": 9.0 - step as f64 / 100.0 - run as f64, "seconds": 0.1,
                "samples_per_second": 40.0, "elapsed_seconds": 0.1 * step as f64, hostile: 0.5 });
            line.to_string() + "\n"
        });
        write(path, &format!("{name}/steps.jsonl"), &lines.collect::<String>());
        let config = json!({ "note": format!("{hostile}{run}"), hostile: { hostile: run } });
        let summary = json!({ "ended": hostile, "seconds": 600, "configuration": config });
        write(path, &format!("{name}/summary.json"), &summary.to_string());
    }
    report(path, &[names[0], names[1]]);
    check_page(path, "report.html", &names);
    let page = fs::read_to_string(path.join("report.html")).expect("a page");
    write(path, "moved.html", &page.replace("</body>", POINTER));
    for width in [500, 1300] {
        let Some((dom, console)) = browsed(path, "moved.html", width) else { return };
        assert_eq!(console, [""; 0], "nothing is said, and nothing hostile runs");
        let (_, seen) = dom.split_once(r#"<pre id="seen">"#).expect("the page ran to its end");
        let seen = seen.split_once("</pre>").expect("it ends").0;
        let seen = seen.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        let seen: Value = serde_json::from_str(&seen).expect("JSON");
        let tip = seen["tip"].as_str().expect("a text");
        for part in ["steps 100", "(8.01)", "(7.01)", names[1]] {
            assert!(tip.contains(part), "{part:?} in {seen}");
        }
        assert_eq!((&seen["shown"], &seen["overflows"]), (&json!("visible"), &json!(false)));
        // Loss, throughput and the figure with the hostile name, of two runs and of one.
        assert_eq!((&seen["before"], &seen["after"]), (&json!(6), &json!(3)), "{seen}");
    }
}

#[test]
fn what_is_no_run_is_told() {
    let folder = folder();
    let ran = trainyard(folder.path(), &["report", "nowhere"]);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    assert!(ran.stderr.starts_with("error: nowhere holds no run: steps.jsonl: "), "{ran:#?}");
    assert!(!folder.path().join("report.html").exists());
}
