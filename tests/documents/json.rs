//! JSON as documents show it: members in the order in which they came, numbers to the digit, and on one
//! line what fits there.

use std::iter::Peekable;
use std::str::Chars;

/// Characters of a line.
const WIDTH: usize = 100;

enum Node {
    /// A string, a number or a word, as it was written.
    Scalar(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// The values in `text`, one after the other, each on lines of its own. None when one is not JSON.
pub fn shown(text: &str) -> Option<String> {
    let mut shown = Vec::new();
    for value in
        serde_json::Deserializer::from_str(text).into_iter::<Box<serde_json::value::RawValue>>()
    {
        let node = read(&mut value.ok()?.get().chars().peekable());
        let mut text = String::new();
        write(&node, 0, 0, &mut text);
        shown.push(text);
    }
    Some(shown.join("\n"))
}

/// Reads what is known to be JSON.
fn read(letters: &mut Peekable<Chars<'_>>) -> Node {
    skip_space(letters);
    match letters.peek() {
        Some('[') => {
            letters.next();
            let mut items = Vec::new();
            while !ends(letters, ']') {
                items.push(read(letters));
            }
            Node::Array(items)
        }
        Some('{') => {
            letters.next();
            let mut members = Vec::new();
            while !ends(letters, '}') {
                let name = scalar(letters);
                skip_space(letters);
                letters.next();
                members.push((name, read(letters)));
            }
            Node::Object(members)
        }
        _ => Node::Scalar(scalar(letters)),
    }
}

/// Whether the array or object ends here; passes over the comma if not.
fn ends(letters: &mut Peekable<Chars<'_>>, end: char) -> bool {
    skip_space(letters);
    if letters.peek() == Some(&',') {
        letters.next();
        skip_space(letters);
    }
    letters.next_if_eq(&end).is_some()
}

fn skip_space(letters: &mut Peekable<Chars<'_>>) {
    while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
}

fn scalar(letters: &mut Peekable<Chars<'_>>) -> String {
    let mut text = String::new();
    if letters.peek() == Some(&'"') {
        text.extend(letters.next());
        while let Some(letter) = letters.next() {
            text.push(letter);
            match letter {
                '\\' => text.extend(letters.next()),
                '"' => break,
                _ => {}
            }
        }
        return text;
    }
    while let Some(letter) = letters.next_if(|c| !c.is_whitespace() && !",]}:".contains(*c)) {
        text.push(letter);
    }
    text
}

/// `used` characters of the line are in use.
fn write(node: &Node, indent: usize, used: usize, text: &mut String) {
    let line = on_one_line(node);
    if used + line.chars().count() <= WIDTH {
        text.push_str(&line);
        return;
    }
    let (open, close, items): (_, _, Vec<(Option<&String>, &Node)>) = match node {
        Node::Scalar(_) => return text.push_str(&line),
        Node::Array(items) => ('[', ']', items.iter().map(|item| (None, item)).collect()),
        Node::Object(members) => {
            ('{', '}', members.iter().map(|(name, item)| (Some(name), item)).collect())
        }
    };
    text.push(open);
    let inner = indent + 2;
    for (index, (name, item)) in items.iter().enumerate() {
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        let label = name.map(|name| format!("{name}: ")).unwrap_or_default();
        text.push_str(&" ".repeat(inner));
        text.push_str(&label);
        // A comma follows.
        write(item, inner, inner + label.chars().count() + 1, text);
    }
    text.push('\n');
    text.push_str(&" ".repeat(indent));
    text.push(close);
}

fn on_one_line(node: &Node) -> String {
    match node {
        Node::Scalar(text) => text.clone(),
        Node::Array(items) => {
            let items: Vec<_> = items.iter().map(on_one_line).collect();
            format!("[{}]", items.join(", "))
        }
        Node::Object(members) if members.is_empty() => "{}".to_owned(),
        Node::Object(members) => {
            let members: Vec<_> = members
                .iter()
                .map(|(name, item)| format!("{name}: {}", on_one_line(item)))
                .collect();
            format!("{{ {} }}", members.join(", "))
        }
    }
}

#[test]
fn json_is_shown_in_its_order() {
    let text = r#"{"b":[],"a":{"x":[1, 2.50,"q\"]"]},"n":340282366920938463463374607431768211455}"#;
    let expected = r#"{ "b": [], "a": { "x": [1, 2.50, "q\"]"] }, "n": 340282366920938463463374607431768211455 }"#;
    assert_eq!(shown(text).unwrap(), expected);
    let long = format!(r#"{{"a":"{}","b":1}} {{}}"#, "x".repeat(90));
    assert_eq!(
        shown(&long).unwrap(),
        format!("{{\n  \"a\": \"{}\",\n  \"b\": 1\n}}\n{{}}", "x".repeat(90))
    );
    assert!(shown("{").is_none());
}
