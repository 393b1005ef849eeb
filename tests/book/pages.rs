//! The summary lists every page, and links lead somewhere.

use std::path::Path;

use crate::documents::markdown::{Document, root};

#[test]
fn the_summary_lists_every_page_once() {
    let summary = Document::read("docs/src/SUMMARY.md");
    let mut listed: Vec<_> = summary.links().into_iter().map(|(_, target)| target).collect();
    listed.sort();
    let pages = Document::pages().into_iter();
    let names = pages.map(|page| page.path.file_name().unwrap().to_str().unwrap().to_owned());
    let expected: Vec<_> = names.filter(|name| name != "SUMMARY.md").collect();
    assert_eq!(listed, expected);
    assert!(root().join("docs/book.toml").is_file());
}

#[test]
fn links_lead_somewhere() {
    let pages = Document::all();
    for page in &pages {
        let is_in_book = page.path.starts_with("docs");
        for (line, target) in page.links() {
            if target.contains("://") {
                continue;
            }
            let place = page.place(line);
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = page.path.parent().unwrap().join(file);
            assert!(
                file.is_empty() || root().join(&path).exists(),
                "{place}: there is no {}",
                path.display()
            );
            // Built, the book is by itself.
            assert!(!is_in_book || !file.contains('/'), "{place}: {target} leads out of the book");
            if anchor.is_empty() {
                continue;
            }
            let of = if file.is_empty() { page.path.as_path() } else { Path::new(&path) };
            let found = pages.iter().find(|page| page.path == of);
            let anchors = found.map(Document::anchors).unwrap_or_default();
            assert!(
                anchors.iter().any(|known| known == anchor),
                "{place}: no {target} in {anchors:?}"
            );
        }
    }
}

#[test]
fn anchors_are_unique() {
    for page in Document::all() {
        let mut anchors = page.anchors();
        anchors.sort();
        let before = anchors.len();
        anchors.dedup();
        assert_eq!(anchors.len(), before, "{}: two headings are alike", page.path.display());
    }
}

/// One who looks for a page in a hurry reads its first lines.
#[test]
fn a_page_opens_with_its_title() {
    for page in Document::pages() {
        let title = page.lines.first().map(String::as_str).unwrap_or_default();
        assert!(title.starts_with("# "), "{}: {title}", page.path.display());
    }
}
