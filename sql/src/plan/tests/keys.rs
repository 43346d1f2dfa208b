//! Which column the closed rows of one window lie in the order of.

use thalweg_engine::spec::ViewShape;

use super::view;

async fn key_of(query: &str) -> Option<String> {
    let view = view(query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    let ViewShape::Units { upper, .. } = view.shape else { panic!("{query}: it keeps nothing") };
    upper.first_key.map(|column| view.schema.field(column).name().clone())
}

#[tokio::test]
async fn it_is_the_first_that_groups_and_is_no_bound() {
    let tumbling = "FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY";
    for (query, key) in [
        (
            format!("SELECT window_start, count(*) AS n, u AS who, k {tumbling} window_start, k, u"),
            Some("who"),
        ),
        (format!("SELECT window_end, upper(k) AS loud, k {tumbling} window_end, k"), Some("k")),
        (format!("SELECT window_start, concat(k, count(*)) AS told {tumbling} window_start, k"), None),
        (format!("SELECT window_start, count(*) AS n {tumbling} window_start"), None),
        (format!("SELECT window_start, tags, k {tumbling} window_start, tags, k"), Some("k")),
        (
            format!(
                "SELECT * FROM (SELECT window_start AS since, k AS who, count(*) AS n {tumbling} since, who) WHERE n > 1"
            ),
            Some("who"),
        ),
        ("SELECT DISTINCT k FROM t".into(), Some("k")),
    ] {
        assert_eq!(key_of(&query).await.as_deref(), key, "{query}");
    }
}
