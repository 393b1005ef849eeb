//! What the documents name is there: options, variables, metrics, codes, routes, types of events, files.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use clap::{Args, Command};
use ipam::api::error::Code;
use ipam::config::Options;
use ipam::telemetry::Metrics;

use crate::documents::markdown::{Document, root};

/// Names of others, which look like ours.
const OF_OTHERS: &[&str] = &["user_version", "reply_to", "allow_responses", "IPAM_PORT"];

/// Paths of machines, and not of the API.
const PLACES: &[&str] = &["/etc/", "/var/", "/usr/", "/proc/", "/data", "/ipam"];

fn options() -> Vec<String> {
    let command = Options::augment_args(Command::new("serve"));
    command.get_arguments().map(|flag| flag.get_id().to_string()).collect()
}

/// What `ipam COMMAND --help` prints.
fn help(of: &str) -> String {
    let output = std::process::Command::new(crate::server::IPAM).args([of, "--help"]).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

/// The text of `/metrics` with something in each.
fn metrics() -> String {
    let metrics = Metrics::default();
    metrics.request("GET", "/pools", 200, Duration::ZERO);
    for outcome in ["done", "not_done", "unknown"] {
        metrics.commit(1, "drained", outcome, Duration::ZERO);
    }
    metrics.admission_refused("subnet");
    metrics.actor_started("subnet", true);
    metrics.hook(&"a".into(), "allowed", Duration::ZERO);
    metrics.relays().started("nats");
    metrics.encode()
}

/// The names of metrics, and those of their series.
fn metric_names(text: &str) -> BTreeSet<&str> {
    let names = text.lines().map(|line| line.strip_prefix("# HELP ").unwrap_or(line));
    names.filter_map(|line| line.split(['{', ' ']).next()).collect()
}

/// Every name of a member or value in the OpenAPI document and the schemas of events, and every word of
/// the configuration file.
fn words() -> BTreeSet<String> {
    let mut texts = vec![fs::read_to_string(root().join("deploy/ipam.toml")).unwrap()];
    texts.push(fs::read_to_string(root().join("deploy/openapi.json")).unwrap());
    for schema in fs::read_dir(root().join("deploy/schemas")).unwrap() {
        texts.push(fs::read_to_string(schema.unwrap().path()).unwrap());
    }
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = texts.iter().flat_map(|text| text.split(|letter| !is_word(letter)));
    words.map(str::to_owned).chain(options()).collect()
}

fn is_snake(name: &str) -> bool {
    name.contains('_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !name.starts_with('_')
}

#[test]
fn names_in_code_spans_are_known() {
    let (options, words, metrics) = (options(), words(), metrics());
    let metric_names = metric_names(&metrics);
    // And what every program has.
    let helps = ["serve", "check", "initiate", "health", "bench"].map(help).concat() + "--version";
    let codes: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    for document in Document::all() {
        for (line, span) in document.spans() {
            let place = document.place(line);
            for part in span.split(|c: char| c.is_whitespace() || "=,;(\"'".contains(c)) {
                if let Some(variable) = part.strip_prefix("IPAM_") {
                    let name = variable.trim_matches('…').to_lowercase();
                    let known = options.contains(&name)
                        || name.is_empty()
                        || name == "config"
                        || OF_OTHERS.contains(&part);
                    assert!(known, "{place}: {part} is no variable");
                }
                let metric = part.split('{').next().unwrap();
                if metric.starts_with("ipam_") {
                    let begins = metric.strip_suffix('…');
                    let known = metric_names.contains(metric)
                        || begins.is_some_and(|begins| metrics.contains(begins));
                    assert!(known, "{place}: {metric} is no metric");
                } else if is_snake(part) && !OF_OTHERS.contains(&part) {
                    let known =
                        words.contains(part) || codes.contains(part) || metrics.contains(part);
                    assert!(known, "{place}: nothing is called {part}");
                }
            }
            // Flags of other programs stand behind their names.
            let is_ours = span.starts_with("--") || span.starts_with("ipam ");
            let flags = span.split([' ', '=', '[']).filter(|part| part.starts_with("--"));
            for flag in flags.filter(|_| is_ours) {
                let known = helps.contains(flag) || flag == "--bench-route";
                assert!(known, "{place}: ipam has no {flag}");
            }
            if let Some(file) = ["deploy/", "examples/", "src/", "docs/", "tests/"]
                .iter()
                .any(|part| span.starts_with(part))
                .then_some(span.as_str())
            {
                assert!(root().join(file).exists(), "{place}: there is no {file}");
            }
        }
    }
}

#[test]
fn flags_in_commands_are_known() {
    let helps =
        ["serve", "check", "initiate", "health", "bench"].map(|command| (command, help(command)));
    for document in Document::all() {
        for block in document.blocks() {
            if !["sh", "shell"].contains(&block.language.as_str()) {
                continue;
            }
            for line in document.text_of(&block).replace("\\\n", " ").lines() {
                for (command, help) in &helps {
                    let Some((_, rest)) = line.split_once(&format!("ipam {command} ")) else {
                        continue;
                    };
                    for flag in rest.split([' ', '=']).filter(|word| word.starts_with("--")) {
                        let known = help.contains(flag) || flag == "--bench-route";
                        assert!(
                            known,
                            "{}: ipam {command} has no {flag}",
                            document.place(block.opened)
                        );
                    }
                }
            }
        }
    }
}

/// A span such as `GET /pools/{id}` or `/leases?address=10.0.0.1`.
#[test]
fn routes_are_served() {
    let routes: Vec<(String, &str)> =
        ipam::api::routes().map(|(method, path)| (method.to_string(), path)).collect();
    for document in Document::all() {
        for (line, span) in document.spans() {
            let (method, path) = match span.split_once(' ') {
                Some((method, path)) if method.chars().all(|c| c.is_ascii_uppercase()) => {
                    (method, path)
                }
                _ => ("", span.as_str()),
            };
            if !path.starts_with('/') || PLACES.iter().any(|place| path.starts_with(place)) {
                continue;
            }
            let path = path.split(['?', ' ']).next().unwrap();
            let method = match method {
                "PUT" => "PATCH",
                "HEAD" => "GET",
                other => other,
            };
            let served = routes
                .iter()
                .any(|(of, pattern)| (method.is_empty() || of == method) && matches(pattern, path));
            assert!(served, "{}: {span} is not served", document.place(line));
        }
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<_>, Vec<_>) =
        (pattern.split('/').collect(), path.split('/').collect());
    let fits = |(pattern, path): (&&str, &&str)| pattern == path || pattern.starts_with('{');
    pattern.len() == path.len() && pattern.iter().zip(&path).all(fits)
}

/// The tour visits every route.
#[test]
fn every_route_is_in_the_tour() {
    let mut text = String::new();
    for page in ["tour.md", "reserving.md", "following.md"] {
        text += &Document::read(format!("docs/src/{page}")).lines.join("\n");
    }
    for (method, path) in ipam::api::routes().filter(|(_, path)| !path.contains(".*")) {
        let named = format!("`{method} {path}`");
        assert!(text.contains(&named), "no page of the tour has {named}");
    }
}

/// The page on errors has a row for each code, with what the table says.
#[test]
fn every_error_is_explained() {
    let page = Document::read("docs/src/errors.md");
    for code in Code::ALL {
        let begins = format!("| {} | `{}` |", code.status().as_u16(), code.as_str());
        let row = page.lines.iter().find(|line| line.starts_with(&begins));
        let row = row.unwrap_or_else(|| panic!("no row begins with {begins}"));
        let again = match code.retry_after_seconds() {
            Some(seconds) => format!("after {seconds} s"),
            None => "no".to_owned(),
        };
        let cell = row.split('|').nth(3).unwrap().trim();
        assert!(cell.starts_with(&again), "{}: {cell} and not {again}", code.as_str());
    }
}

#[test]
fn every_type_of_event_is_told_of() {
    let page = Document::read("docs/src/events.md").lines.join("\n");
    for schema in fs::read_dir(root().join("deploy/schemas")).unwrap() {
        let name = schema.unwrap().file_name().into_string().unwrap();
        let of_type = name.strip_suffix(".json").unwrap();
        assert!(page.contains(&format!("`{of_type}`")), "{of_type} is not told of");
    }
}

/// Alerts and queries, too.
#[test]
fn metrics_in_blocks_are_known() {
    let metrics = metrics();
    let names = metric_names(&metrics);
    for document in Document::pages() {
        for block in document.blocks().iter().filter(|block| block.language == "yaml") {
            let text = document.text_of(block);
            for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                let known = !word.starts_with("ipam_") || names.contains(word);
                assert!(known, "{}: {word} is no metric", document.place(block.opened));
            }
        }
    }
}

/// A metric that nobody explains is of no use at three in the morning.
#[test]
fn every_metric_is_explained() {
    let page = Document::read("docs/src/watching.md").lines.join("\n");
    for line in metrics().lines() {
        let Some(rest) = line.strip_prefix("# HELP ") else { continue };
        let name = rest.split(' ').next().unwrap();
        assert!(page.contains(&format!("`{name}")), "{name} is not explained");
    }
}
