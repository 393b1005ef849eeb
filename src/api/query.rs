//! Query parameters. Each is asked for by name; what nobody asked for is refused by its name, so
//! that a misspelt filter never shows everything.

use std::fmt::Display;
use std::str::FromStr;

use actix_web::HttpRequest;

use crate::domain::annotations::Label;
use crate::limits::{FILTERS_MAX, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX};
use crate::store::query::List;

use super::error::{Code, Problem};

/// The parameters of a request that were not taken yet.
pub struct Query(Vec<(String, String)>);

/// Refuses every parameter, for routes that have none.
///
/// # Errors
/// 422 naming the first of them.
pub fn none(request: &HttpRequest) -> Result<(), Problem> {
    if request.query_string().is_empty() { Ok(()) } else { Query::of(request).finish() }
}

impl Query {
    pub fn of(request: &HttpRequest) -> Self {
        let pairs = form_urlencoded::parse(request.query_string().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// Takes the parameter `name`, which `what` describes.
    ///
    /// # Errors
    /// 422 when it is given twice or cannot be read.
    pub fn take<T: FromStr>(
        &mut self,
        name: &str,
        what: impl Display,
    ) -> Result<Option<T>, Problem> {
        let mut found = self.0.extract_if(.., |(key, _)| key == name);
        let Some((_, text)) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(invalid(name, "is given twice"));
        }
        drop(found);
        text.parse().map(Some).map_err(|_| invalid(name, format_args!("is not {what}")))
    }

    /// Takes `limit`.
    ///
    /// # Errors
    /// 422 when it is out of bounds.
    pub fn take_limit(&mut self) -> Result<usize, Problem> {
        let what = format!("a number from 1 to {PAGE_LIMIT_MAX}");
        let limit = self.take("limit", &what)?.unwrap_or(PAGE_LIMIT_DEFAULT);
        if !(1..=PAGE_LIMIT_MAX).contains(&limit) {
            return Err(invalid("limit", format_args!("is not {what}")));
        }
        Ok(limit)
    }

    /// Takes `limit`, `cursor` and the filters by label; nothing else may be left.
    ///
    /// # Errors
    /// 422 naming the parameter that is wrong or not known.
    pub fn into_list<Id: FromStr>(mut self) -> Result<List<Id>, Problem> {
        let limit = self.take_limit()?;
        let after = self.take("cursor", "a cursor that a list answered")?;
        let labels = self.take_labels()?;
        self.finish()?;
        Ok(List { after, limit, labels })
    }

    fn take_labels(&mut self) -> Result<Vec<Label>, Problem> {
        let is_label =
            |key: &str| matches!(key, "name" | "tag" | "metadata") || key.starts_with("metadata.");
        let found = self.0.extract_if(.., |(key, _)| is_label(key));
        let labels: Vec<_> = found.map(|(key, value)| Label { key, value }).collect();
        if let Some(first_too_many) = labels.get(FILTERS_MAX) {
            let why = format_args!("is one filter more than {FILTERS_MAX}");
            return Err(invalid(&first_too_many.key, why));
        }
        let empty = |label: &&Label| label.value.is_empty() && !label.key.starts_with("metadata");
        match labels.iter().find(empty) {
            // No resource has an empty tag, and one without a name is not found by it.
            Some(label) => Err(invalid(&label.key, "is empty")),
            None => Ok(labels),
        }
    }

    /// Says that every parameter that is known was taken.
    ///
    /// # Errors
    /// 422 naming one that is left.
    pub fn finish(self) -> Result<(), Problem> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => {
                let detail = format!("{name}: is not a parameter of this route");
                Err(Problem::with_field(Code::UnknownField, name, detail))
            }
        }
    }
}

fn invalid(name: &str, why: impl Display) -> Problem {
    Problem::with_field(Code::Invalid, name, format!("{name}: {why}"))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn list(query: &str) -> Result<List<u64>, String> {
        let request = TestRequest::get().uri(&format!("/pools?{query}")).to_http_request();
        Query::of(&request).into_list().map_err(|problem| problem.to_string())
    }

    #[test]
    fn filters_are_labels_and_tags_may_repeat() {
        let list = list("tag=a&limit=7&metadata.mac=aa%3Abb&tag=b+c&cursor=12&name=n").unwrap();
        assert_eq!((list.limit, list.after), (7, Some(12)));
        let labels: Vec<_> = list.labels.iter().map(|l| format!("{}={}", l.key, l.value)).collect();
        assert_eq!(labels, ["tag=a", "metadata.mac=aa:bb", "tag=b c", "name=n"]);
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let list = list("").unwrap();
        assert_eq!((list.limit, list.after, list.labels.len()), (PAGE_LIMIT_DEFAULT, None, 0));
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        let many = "tag=a&".repeat(FILTERS_MAX + 1);
        for (query, name) in [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=-1", "limit"),
            ("limit=", "limit"),
            ("limit=1&limit=1", "limit"),
            ("cursor=x", "cursor"),
            ("colour=red", "colour"),
            ("Tag=a", "Tag"),
            ("tag=", "tag"),
            ("name=", "name"),
            ("metadatum=1", "metadatum"),
            (&many, "tag"),
        ] {
            let problem = list(query).unwrap_err();
            assert!(problem.starts_with(&format!("{name}: ")), "{query}: {problem}");
        }
    }
}
