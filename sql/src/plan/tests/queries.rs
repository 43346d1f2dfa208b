//! Every file of `queries/` is planned, in the order of names, as `thalweg serve queries/*.sql` reads them.

use std::fs;
use std::path::Path;

use uuid::Uuid;

use crate::parse::{Statement, statements};
use crate::plan::{Inputs, plan_stream, plan_view};

#[tokio::test]
async fn every_file_is_planned() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../queries");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|it| it == "sql"));
    files.sort();
    let mut streams = vec![];
    let mut views = vec![];
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let found = statements(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for parsed in found {
            match parsed.statement {
                Statement::CreateStream(create) => {
                    streams.push(std::sync::Arc::new(plan_stream(&create, Uuid::now_v7()).unwrap()));
                }
                Statement::CreateView(create) => {
                    let inputs = Inputs {
                        streams: &streams,
                        views: &views,
                        tables: &[],
                        plain: crate::parse::PlainViews::NONE,
                    };
                    let view = plan_view(&create, Uuid::now_v7(), inputs).await;
                    let view = view.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                    views.push(std::sync::Arc::new(view));
                }
                // A session plans it over the views' tables, and an end-to-end test asks each.
                Statement::CreateEndpoint(_) => {}
                other => panic!("{}: {other:?}", file.display()),
            }
        }
    }
    assert!(views.len() >= 16, "{} views", views.len());
}
