//! Whether two texts are the same but for what differs from run to run: ids, times, and the lengths and
//! durations that come with them.

use std::collections::HashMap;

/// Which id of a run stands for which of the document. One to one.
#[derive(Default)]
pub struct Ids {
    of_run: HashMap<String, String>,
    of_document: HashMap<String, String>,
}

impl Ids {
    /// Whether the two may stand for each other; from now on nothing else may.
    pub fn pair(&mut self, of_document: &str, of_run: &str) -> bool {
        let known = (self.of_run.get(of_document), self.of_document.get(of_run));
        if let (None, None) = known {
            self.of_run.insert(of_document.to_owned(), of_run.to_owned());
            self.of_document.insert(of_run.to_owned(), of_document.to_owned());
            return true;
        }
        known.0.is_some_and(|known| known == of_run)
    }

    /// One more id of the document for one of the run, until the document is written.
    pub fn alias(&mut self, of_document: &str, of_run: &str) {
        self.of_run.insert(of_document.to_owned(), of_run.to_owned());
    }

    pub fn of_run(&self, of_document: &str) -> Option<&String> {
        self.of_run.get(of_document)
    }

    /// A text of the run with the ids of the document, where there are such.
    pub fn as_documented(&self, text: &str) -> String {
        let parts = parts(text).into_iter().map(|part| match part {
            Part::Id(id) => self.of_document.get(id).map_or(id, String::as_str),
            Part::Text(text) | Part::Varies(text) => text,
        });
        parts.collect()
    }

    /// Whether a text of the document is what was printed. If not, nothing is learnt from it.
    pub fn same(&mut self, of_document: &str, of_run: &str) -> bool {
        let (expected, found) = (parts(of_document), parts(of_run));
        let mut pairs = Vec::new();
        let same = expected.len() == found.len()
            && expected.iter().zip(&found).all(|pair| match pair {
                (Part::Text(expected), Part::Text(found)) => expected == found,
                (Part::Id(expected), Part::Id(found)) => {
                    pairs.push((*expected, *found));
                    true
                }
                (Part::Varies(_), Part::Varies(_)) => true,
                _ => false,
            });
        if !same {
            return false;
        }
        let before = (self.of_run.clone(), self.of_document.clone());
        let consistent = pairs.into_iter().all(|(expected, found)| self.pair(expected, found));
        if !consistent {
            (self.of_run, self.of_document) = before;
        }
        consistent
    }
}

#[derive(Debug, PartialEq)]
enum Part<'a> {
    Text(&'a str),
    Id(&'a str),
    /// A time, or a number that differs.
    Varies(&'a str),
}

/// What an id looks like: each letter stands for itself but for `x`, a hexadecimal digit.
const ID: &str = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

/// What comes before a number that differs.
const BEFORE_NUMBERS: [&str; 5] =
    ["content-length: ", "\"lag_seconds\": ", "\"lag_seconds\":", "_seconds ", "date: "];

fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut begun, mut at) = (0, 0);
    while at < text.len() {
        let (rest, before) = (&text[at..], &text[..at]);
        let follows_word = before.ends_with(|c: char| c.is_ascii_alphanumeric());
        let special = if follows_word {
            None
        } else if let Some(id) = id(rest) {
            Some(Part::Id(id))
        } else if let Some(time) = time(rest) {
            Some(Part::Varies(time))
        } else if BEFORE_NUMBERS.iter().any(|name| before.ends_with(name)) {
            let end = rest.find(['\n', '\r', ',', '}', ' ']).unwrap_or(rest.len());
            let end = if before.ends_with("date: ") {
                rest.find(['\n', '\r']).unwrap_or(end)
            } else {
                end
            };
            (end > 0).then(|| Part::Varies(&rest[..end]))
        } else {
            None
        };
        match special {
            Some(part) => {
                if begun < at {
                    parts.push(Part::Text(&text[begun..at]));
                }
                let (Part::Text(own) | Part::Id(own) | Part::Varies(own)) = part;
                at += own.len();
                begun = at;
                parts.push(part);
            }
            None => at += rest.chars().next().map_or(1, char::len_utf8),
        }
    }
    if begun < text.len() {
        parts.push(Part::Text(&text[begun..]));
    }
    parts
}

/// The id that a text begins with.
pub fn id(text: &str) -> Option<&str> {
    let candidate = text.get(..ID.len())?;
    let fits = candidate.chars().zip(ID.chars()).all(|(letter, pattern)| match pattern {
        'x' => letter.is_ascii_hexdigit(),
        pattern => letter == pattern,
    });
    fits.then_some(candidate)
}

/// The time (RFC 3339, UTC) that a text begins with.
fn time(text: &str) -> Option<&str> {
    let fits = text.chars().zip("0000-00-00T00:00:00".chars()).filter(|(letter, pattern)| {
        if *pattern == '0' { letter.is_ascii_digit() } else { letter == pattern }
    });
    if fits.count() < 19 {
        return None;
    }
    let fraction = text[19..].find(|c: char| c != '.' && !c.is_ascii_digit())?;
    text[19 + fraction..].starts_with('Z').then(|| &text[..=19 + fraction])
}

#[test]
fn ids_and_times_differ_and_nothing_else() {
    let a = "01a20b20-d71f-7732-b68e-cdd91903f3a5";
    let b = "01a20b20-d71f-7732-b68e-cdd91903f3a6";
    let mut ids = Ids::default();
    let text = |id: &str, time: &str| {
        format!("{{\"id\": \"{id}\", \"of\": \"{id}-0\", \"at\": \"{time}\"}}")
    };
    let shown = text(a, "2026-01-31T12:00:00Z");
    assert!(ids.same(&shown, &text(b, "2027-01-31T12:00:00.123456Z")));
    assert!(!ids.same(&shown, &text(a, "2026-01-31T12:00:00Z")), "another id stands for it");
    assert!(!ids.same(&shown, &text(b, "today")));
    assert!(!ids.same("1 lease", "2 leases"));
    assert!(ids.same("content-length: 7\r\n", "content-length: 12\r\n"));
    assert_eq!(ids.as_documented(&format!("/pools/{b}")), format!("/pools/{a}"));
}
