//! The form of an answer: by the end of the path, or else by what `Accept` likes best.

use axum::http::{HeaderMap, StatusCode, header};

use crate::fault::Fault;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// An array of objects.
    Json,
    /// An object a line.
    Lines,
    Csv,
    /// Arrow's IPC stream.
    Arrow,
    Parquet,
}

impl Format {
    pub const ALL: [Format; 5] = [Format::Json, Format::Lines, Format::Csv, Format::Arrow, Format::Parquet];

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Lines => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Arrow => "application/vnd.apache.arrow.stream",
            Format::Parquet => "application/vnd.apache.parquet",
        }
    }

    pub fn suffix(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Lines => "ndjson",
            Format::Csv => "csv",
            Format::Arrow => "arrow",
            Format::Parquet => "parquet",
        }
    }

    fn media_type(self) -> &'static str {
        self.content_type().split(';').next().unwrap_or_default()
    }

    /// The path without its end, and the form that the end names.
    pub fn of_path(path: &str) -> Result<(&str, Option<Format>), Fault> {
        let Some((stem, suffix)) = path.rsplit_once('.') else { return Ok((path, None)) };
        match Format::ALL.into_iter().find(|format| format.suffix() == suffix) {
            Some(format) => Ok((stem, Some(format))),
            None => Err(Fault::not_found(format!("there is no form .{suffix}"))
                .hint("forms are .json, .ndjson, .csv, .arrow and .parquet")),
        }
    }

    /// What the client likes best of what there is; JSON where it likes everything.
    pub fn accepted(headers: &HeaderMap) -> Result<Format, Fault> {
        let given: Vec<&str> =
            headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        if given.is_empty() {
            return Ok(Format::Json);
        }
        let mut best: Option<(f32, Format)> = None;
        for range in given.iter().flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            let matches = |format: &Format| {
                let own = format.media_type();
                media.eq_ignore_ascii_case(own)
                    || media == "*/*"
                    || media.strip_suffix("/*").is_some_and(|kind| own.split('/').next() == Some(kind))
            };
            let Some(format) = Format::ALL.into_iter().find(matches) else { continue };
            if quality > best.map_or(0.0, |(quality, _)| quality) {
                best = Some((quality, format));
            }
        }
        best.map(|(_, format)| format).ok_or_else(|| {
            Fault::new(StatusCode::NOT_ACCEPTABLE, "none of the types in Accept can be answered")
                .hint(Format::ALL.map(Format::media_type).join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(value: &str) -> Option<Format> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, value.parse().unwrap());
        Format::accepted(&headers).ok()
    }

    #[test]
    fn the_best_liked_form_is_taken() {
        assert_eq!(Format::accepted(&HeaderMap::new()).unwrap(), Format::Json);
        assert_eq!(accepted("*/*"), Some(Format::Json));
        assert_eq!(accepted("text/csv"), Some(Format::Csv));
        assert_eq!(accepted("application/json;q=0.5, text/csv;q=0.8"), Some(Format::Csv));
        assert_eq!(accepted("text/html, application/vnd.apache.parquet;q=0.1"), Some(Format::Parquet));
        assert_eq!(accepted("text/html,application/xhtml+xml,*/*;q=0.8"), Some(Format::Json));
        assert_eq!(accepted("text/*"), Some(Format::Csv));
        assert_eq!(accepted("image/png"), None);
        assert_eq!(accepted("text/csv;q=0"), None);
    }

    #[test]
    fn the_end_of_a_path_names_a_form() {
        assert_eq!(Format::of_path("a/b.csv").unwrap(), ("a/b", Some(Format::Csv)));
        assert_eq!(Format::of_path("a/b").unwrap(), ("a/b", None));
        assert!(Format::of_path("a/b.xml").is_err());
    }
}
