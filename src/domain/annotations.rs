//! What every resource carries for its owner's own use: a name, tags, and free JSON metadata.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::domain::invalid::Invalid;
use crate::domain::metadata::Metadata;
use crate::limits::{NAME_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX};

/// Name, tags and metadata of a resource. The service never reads a meaning into them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Annotations {
    pub name: String,
    pub tags: Vec<String>,
    pub metadata: Metadata,
}

/// A JSON Merge Patch of annotations: an absent field stays, `Some(None)` is a `null` and empties.
#[derive(Clone, Debug, Default)]
pub struct AnnotationsPatch {
    pub name: Option<Option<String>>,
    pub tags: Option<Option<Vec<String>>>,
    pub metadata: Option<Box<RawValue>>,
}

impl Annotations {
    /// # Errors
    /// [`Invalid`] naming the field that is too long, or the tag that is empty or given twice.
    pub fn new(name: String, tags: Vec<String>, metadata: Metadata) -> Result<Self, Invalid> {
        if name.len() > NAME_BYTES_MAX {
            return Err(Invalid::new("name", format!("is longer than {NAME_BYTES_MAX} bytes")));
        }
        if tags.len() > TAGS_MAX {
            return Err(Invalid::new("tags", format!("holds more than {TAGS_MAX} tags")));
        }
        for (index, tag) in tags.iter().enumerate() {
            let why = if tag.is_empty() {
                "is empty".to_owned()
            } else if tag.len() > TAG_BYTES_MAX {
                format!("is longer than {TAG_BYTES_MAX} bytes")
            } else if tags.iter().take(index).any(|earlier| earlier == tag) {
                "is given twice".to_owned()
            } else {
                continue;
            };
            return Err(Invalid::new(format!("tags[{index}]"), why));
        }
        Ok(Self { name, tags, metadata })
    }

    /// # Errors
    /// As [`Annotations::new`], for the result.
    pub fn patched(&self, patch: AnnotationsPatch) -> Result<Self, Invalid> {
        let name = patch.name.map_or_else(|| self.name.clone(), Option::unwrap_or_default);
        let tags = patch.tags.map_or_else(|| self.tags.clone(), Option::unwrap_or_default);
        let metadata = match patch.metadata {
            None => self.metadata.clone(),
            Some(change) => self.metadata.patched(&change)?,
        };
        Self::new(name, tags, metadata)
    }

    /// Everything a list can be filtered by, as pairs: `name`, `tag`, `metadata.<path>`. Equal
    /// pairs come once.
    pub fn labels(&self) -> Vec<Label> {
        let mut labels = Vec::new();
        if !self.name.is_empty() {
            labels.push(Label { key: "name".into(), value: self.name.clone() });
        }
        labels.extend(self.tags.iter().map(|tag| Label { key: "tag".into(), value: tag.clone() }));
        let walked = self.metadata.walk(&mut |path, value| {
            labels.push(Label { key: path.to_owned(), value: value.to_owned() });
        });
        debug_assert!(walked.is_ok(), "metadata was accepted, so it can be walked");
        labels.sort_unstable();
        labels.dedup();
        labels
    }
}

/// One pair that a list can be filtered by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    pub key: String,
    pub value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(name: &str, tags: &[&str], metadata: &str) -> Annotations {
        let metadata =
            Metadata::parse(RawValue::from_string(metadata.to_owned()).unwrap()).unwrap();
        Annotations::new(name.into(), tags.iter().map(|&tag| tag.into()).collect(), metadata)
            .unwrap()
    }

    #[test]
    fn a_patch_changes_what_it_names_and_null_empties() {
        let before = annotations("rack", &["a"], r#"{"x":1,"y":2}"#);
        let patch = AnnotationsPatch {
            name: None,
            tags: Some(None),
            metadata: Some(RawValue::from_string(r#"{"x":null}"#.into()).unwrap()),
        };
        assert_eq!(before.patched(patch).unwrap(), annotations("rack", &[], r#"{"y":2}"#));
        let same = before.patched(AnnotationsPatch::default()).unwrap();
        assert_eq!(same, before);
    }

    #[test]
    fn labels_are_sorted_and_come_once() {
        let labels = annotations("n", &["b", "a"], r#"{"k":["v","v"]}"#).labels();
        let pairs: Vec<_> = labels.iter().map(|l| format!("{}={}", l.key, l.value)).collect();
        assert_eq!(pairs, ["metadata.k=v", "name=n", "tag=a", "tag=b"]);
        assert!(Annotations::default().labels().is_empty());
    }

    #[test]
    fn limits_name_their_field() {
        let refused = |name: &str, tags: &[&str]| {
            let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
            Annotations::new(name.into(), tags, Metadata::default()).unwrap_err().field
        };
        assert_eq!(refused(&"x".repeat(NAME_BYTES_MAX + 1), &[]), "name");
        assert_eq!(refused("", &["a", ""]), "tags[1]");
        assert_eq!(refused("", &["a", "b", "a"]), "tags[2]");
        assert_eq!(refused("", &[&"x".repeat(TAG_BYTES_MAX + 1)]), "tags[0]");
        assert_eq!(refused("", &vec!["x"; TAGS_MAX + 1]), "tags");
    }
}
