//! What stands in a document: fenced blocks, and of the rest headings, links and code spans. No more
//! Markdown than the documents here have.

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub struct Document {
    /// From the root of the repository.
    pub path: PathBuf,
    pub lines: Vec<String>,
}

/// What stands between two fences.
#[derive(Clone, Debug)]
pub struct Block {
    pub language: String,
    /// The lines of the fences.
    pub opened: usize,
    pub closed: usize,
}

impl Document {
    pub fn read(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let text = fs::read_to_string(root().join(&path));
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path, lines: text.lines().map(str::to_owned).collect() }
    }

    /// The README and every page of the book.
    pub fn all() -> Vec<Self> {
        let mut all = Self::pages();
        all.push(Self::read("README.md"));
        all
    }

    /// Every page of the book, also one that its summary does not list.
    pub fn pages() -> Vec<Self> {
        let directory = fs::read_dir(root().join("docs/src")).unwrap();
        let names = directory.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.ends_with(".md")).collect();
        names.sort();
        names.into_iter().map(|name| Self::read(Path::new("docs/src").join(name))).collect()
    }

    pub fn write(&self) {
        fs::write(root().join(&self.path), self.lines.join("\n") + "\n").unwrap();
    }

    /// Where a line is, for messages.
    pub fn place(&self, line: usize) -> String {
        format!("{}:{}", self.path.display(), line + 1)
    }

    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<(String, usize)> = None;
        for (number, line) in self.lines.iter().enumerate() {
            let Some(fence) = line.trim_start().strip_prefix("```") else { continue };
            match open.take() {
                Some((language, opened)) => blocks.push(Block { language, opened, closed: number }),
                None => open = Some((fence.trim().to_owned(), number)),
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", self.path.display());
        blocks
    }

    pub fn text_of(&self, block: &Block) -> String {
        self.lines[block.opened + 1..block.closed].join("\n")
    }

    /// The lines outside of blocks, with their numbers.
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let blocks = self.blocks();
        let is_prose =
            |number: &usize| !blocks.iter().any(|b| (b.opened..=b.closed).contains(number));
        let lines = self.lines.iter().enumerate().map(|(number, line)| (number, line.as_str()));
        lines.filter(|(number, _)| is_prose(number)).collect()
    }

    /// What can be linked to: headings as GitHub and mdBook name them, and `<a id="...">`.
    pub fn anchors(&self) -> Vec<String> {
        let mut anchors: Vec<String> = Vec::new();
        for (_, line) in self.prose() {
            let heading = line.trim_start_matches('#');
            if heading.len() < line.len() && heading.starts_with(' ') {
                anchors.push(slug(heading.trim()));
            }
            for named in line.split("<a id=\"").skip(1) {
                anchors.push(named.split('"').next().unwrap().to_owned());
            }
        }
        anchors
    }

    /// The targets of links, with their lines.
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (number, line) in self.prose() {
            let line = without_spans(line);
            for target in line.split("](").skip(1) {
                links.push((number, target.split(')').next().unwrap().to_owned()));
            }
            for target in line.split('<').skip(1).filter_map(|rest| rest.split_once('>')) {
                if target.0.contains("://") {
                    links.push((number, target.0.to_owned()));
                }
            }
        }
        links
    }

    /// What stands between backticks in the prose, with its line.
    pub fn spans(&self) -> Vec<(usize, String)> {
        let mut spans = Vec::new();
        for (number, line) in self.prose() {
            let parts: Vec<&str> = line.split('`').collect();
            assert!(parts.len() % 2 == 1, "{}: a backtick is not closed", self.place(number));
            let inside = parts.iter().skip(1).step_by(2);
            spans.extend(inside.map(|span| (number, (*span).to_owned())));
        }
        spans
    }
}

fn without_spans(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

fn slug(heading: &str) -> String {
    let letters = heading.chars().filter_map(|letter| match letter {
        ' ' => Some('-'),
        '-' | '_' => Some(letter),
        letter if letter.is_alphanumeric() => Some(letter.to_ascii_lowercase()),
        _ => None,
    });
    letters.collect()
}
