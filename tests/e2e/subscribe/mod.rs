//! Subscribers that break off and come back with a token, while the server is killed: what they were told for good is
//! what the view has closed, each row once, and what was told otherwise is taken back before it is told anew; by each of
//! the ways on which changes are told.
//!
//! `THALWEG_KILLS` (6) says how often, `THALWEG_SEED` when.

mod http;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use arrow::util::display::array_value_to_string;
use futures::TryStreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::timeout;

use crate::instance::Instance;
use crate::place::Place;
use crate::settings::set;
use crate::shop::Paced;

/// Windows, sessions, a copy, a view over a view, one that looks around, and one without a window.
const VIEWS: [&str; 6] = ["by_second", "visits", "archive", "minutes_of_seconds", "led_to", "totals"];
const ALL_MAX: Duration = Duration::from_secs(60);

/// By which way a subscriber is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Flight,
    Events,
    Socket,
}

/// Rows as text, with how often each is there.
type Bag = BTreeMap<String, i64>;

/// What a subscriber knows.
struct Known {
    view: &'static str,
    line: Line,
    token: Option<String>,
    /// Told for good, up to the last mark.
    closed: Bag,
    open: Bag,
    /// Told for good since the last mark: whoever breaks off is told it again.
    since: Vec<String>,
    marks: u64,
}

impl Known {
    fn of(view: &'static str, line: Line) -> Known {
        let (closed, open) = (Bag::new(), Bag::new());
        Known { view, line, token: None, closed, open, since: vec![], marks: 0 }
    }

    /// Listens until it is broken off from outside.
    async fn listen(&mut self, instance: &Instance) -> Result<()> {
        self.open.clear();
        self.since.clear();
        match self.line {
            Line::Flight => self.listen_by_flight(instance).await?,
            Line::Events => http::listen_to_events(self, instance.http()?).await?,
            Line::Socket => http::listen_to_a_socket(self, instance.http()?).await?,
        }
        bail!("the subscription to {} ended by itself", self.view)
    }

    async fn listen_by_flight(&mut self, instance: &Instance) -> Result<()> {
        let after = self.token.as_ref().map_or(String::new(), |token| format!(" AFTER '{token}'"));
        let mut client = instance.client()?;
        let info = client.execute(format!("SUBSCRIBE TO {}{after}", self.view), None).await?;
        let endpoint = info.endpoint.into_iter().next();
        let ticket = endpoint.and_then(|endpoint| endpoint.ticket).context("the answer has no rows")?;
        let mut told = client.do_get(ticket).await?;
        while let Some(batch) = told.try_next().await? {
            self.take(&batch)?;
        }
        Ok(())
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let changes = batch.column(0).as_primitive::<Int32Type>();
        let (finals, tokens) = (batch.column(1).as_boolean(), batch.column(2).as_string::<i32>());
        for row in 0..batch.num_rows() {
            if changes.value(row) == 0 {
                ensure!(tokens.is_valid(row), "a mark has no token");
                self.mark(tokens.value(row))?;
                continue;
            }
            let values = batch.columns()[4..].iter().map(|column| array_value_to_string(column, row));
            let values = values.collect::<Result<Vec<_>, _>>()?.join("|");
            self.change(values, i64::from(changes.value(row)), finals.value(row))?;
        }
        Ok(())
    }

    fn mark(&mut self, token: &str) -> Result<()> {
        self.token = Some(token.to_owned());
        self.marks += 1;
        for values in self.since.drain(..) {
            *self.closed.entry(values).or_default() += 1;
        }
        self.open.retain(|_, count| *count != 0);
        let taken_back = self.open.iter().find(|(_, count)| **count < 0);
        ensure!(taken_back.is_none(), "a row was taken back that was not open: {taken_back:?}");
        Ok(())
    }

    fn change(&mut self, values: String, change: i64, is_final: bool) -> Result<()> {
        if change == 1 && is_final {
            self.since.push(values);
            return Ok(());
        }
        ensure!(!is_final, "a row was taken back that was told for good: {values}");
        *self.open.entry(values).or_default() += change;
        Ok(())
    }

    /// Whether it has been told all that there is.
    async fn check(&self, instance: &Instance) -> Result<()> {
        for (schema, told) in [("history", &self.closed), ("live", &self.open)] {
            let sql = format!("SELECT * FROM {schema}.{}", self.view);
            let rows: Vec<String> = match self.line {
                Line::Flight => instance.query(&sql).await?.into_iter().map(|row| row.join("|")).collect(),
                Line::Events | Line::Socket => http::rows(instance.http()?, &sql).await?,
            };
            let mut there = Bag::new();
            for row in rows {
                *there.entry(row).or_default() += 1;
            }
            let rows: i64 = there.values().sum();
            let differs = |(row, count): &(&String, &i64)| told.get(*row) != Some(*count);
            let missed: Vec<_> = there.iter().filter(differs).take(5).collect();
            let known = |(row, _): &(&String, &i64)| !there.contains_key(*row);
            let invented: Vec<_> = told.iter().filter(known).take(5).collect();
            ensure!(
                missed.is_empty() && invented.is_empty(),
                "{schema}.{} by {:?} has {rows} rows; told otherwise: {missed:?}, told and not there: {invented:?}",
                self.view,
                self.line
            );
            println!("{schema}.{} by {:?}: {rows} rows, after {} marks", self.view, self.line, self.marks);
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_adds_up_to_the_view() -> Result<()> {
    let kills = set("THALWEG_KILLS", 6)?;
    let seed = set("THALWEG_SEED", rand::rng().random_range(0..1 << 32))?;
    println!("THALWEG_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let shop = Paced::since(Duration::from_secs(8), 17, 500.0, 500 * (10 + kills * 2))?;
    let place = Place::folder(&shop.script()?, &["--roll", "400ms", "--http", "127.0.0.1:0"])?;
    let lines = [Line::Flight, Line::Events, Line::Socket];
    let known = lines.into_iter().flat_map(|line| VIEWS.map(|view| Known::of(view, line)));
    let mut known: Vec<Known> = known.collect();
    let mut instance = place.launch.start(&[]).await?;
    let mut broken_off = 0;
    for _ in 0..kills {
        for _ in 0..random.random_range(1..4) {
            let listening = known.iter_mut().map(|one| one.listen(&instance));
            let for_long = Duration::from_millis(random.random_range(20..900));
            if let Ok(ended) = timeout(for_long, futures::future::try_join_all(listening)).await {
                ended?;
            }
            broken_off += 1;
        }
        instance.kill().await?;
        instance = place.launch.start(&[]).await?;
    }
    println!("{kills} kills, broken off {broken_off} times by the subscribers");
    // The clicks end, and with them all windows.
    let open = "SELECT (SELECT count(*) FROM live.by_second) + (SELECT count(*) FROM live.visits) \
                + (SELECT count(*) FROM live.minutes_of_seconds) + (SELECT count(*) FROM live.led_to)";
    let read = "SELECT count(*) FROM archive";
    instance.until(read, ALL_MAX, |rows| rows as u64 == shop.rows).await?;
    instance.until(open, ALL_MAX, |rows| rows == 0).await?;
    instance.until("SELECT count(*) FROM live.archive", ALL_MAX, |rows| rows == 0).await?;
    let listening = known.iter_mut().map(|one| one.listen(&instance));
    if let Ok(ended) = timeout(Duration::from_secs(3), futures::future::try_join_all(listening)).await {
        ended?;
    }
    for one in &known {
        one.check(&instance).await?;
        ensure!(one.marks > 0, "{} was told nothing by {:?}", one.view, one.line);
    }
    // On a busy machine some listen for too short a time to hear much.
    let marks: u64 = known.iter().map(|one| one.marks).sum();
    ensure!(marks > kills * 6, "all were told little: {marks} marks");
    instance.terminate().await
}
