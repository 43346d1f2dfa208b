//! A store whose faults are written down beforehand, and what becomes of each request.

use std::collections::VecDeque;
use std::sync::Mutex;

use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, UpdateVersion};

use super::*;
use crate::clock::Clock;
use crate::ids::Micros;
use Fault::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It is not carried out.
    Refused,
    /// It is carried out, and nobody hears of it.
    ReplyLost,
    /// It is carried out, and answered as if it had been there before.
    SaidToBeThere,
    /// It is answered as if it were there, and it is not.
    Conflict,
    /// No reply ever comes, and it is not carried out.
    Silent,
    Forbidden,
    /// A body or a listing breaks off after its first piece.
    BreaksOff,
}

/// Meets one request after the other with its faults, and then with none.
#[derive(Debug, Clone)]
struct Scripted {
    inner: Arc<InMemory>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
}

impl Scripted {
    /// What the next request meets before it is carried out.
    async fn fault(&self) -> Result<Option<Fault>> {
        let fault = self.faults.lock().unwrap().pop_front();
        match fault {
            Some(Fault::Refused) => Err(failed("503")),
            Some(Fault::Forbidden) => {
                Err(Error::PermissionDenied { path: "x".into(), source: "the key has expired".into() })
            }
            Some(Fault::Silent) => std::future::pending().await,
            fault => Ok(fault),
        }
    }
}

fn failed(what: &str) -> Error {
    Error::Generic { store: "scripted", source: what.into() }
}

impl std::fmt::Display for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "scripted")
    }
}

#[async_trait]
impl ObjectStore for Scripted {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let fault = self.fault().await?;
        if fault == Some(Fault::Conflict) {
            return Err(Error::AlreadyExists { path: location.to_string(), source: "409".into() });
        }
        let done = self.inner.put_opts(location, payload, opts).await?;
        match fault {
            Some(Fault::ReplyLost) => Err(failed("connection reset")),
            Some(Fault::SaidToBeThere) => {
                Err(Error::AlreadyExists { path: location.to_string(), source: "409".into() })
            }
            _ => Ok(done),
        }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        panic!("uploads become one put")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.fault().await?;
        let mut found = self.inner.get_opts(location, options).await?;
        if fault == Some(Fault::BreaksOff) {
            let pieces = [Ok("half".into()), Err(failed("connection reset"))];
            found.payload = GetResultPayload::Stream(stream::iter(pieces).boxed());
        }
        Ok(found)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                store.fault().await?;
                store.inner.delete(&location).await.map(|()| location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            let broken = store.fault().await? == Some(Fault::BreaksOff);
            let whole = store.inner.list(prefix.as_ref());
            Ok::<_, Error>(match broken {
                true => whole.take(1).chain(stream::iter([Err(failed("connection reset"))])).boxed(),
                false => whole,
            })
        };
        stream::once(listing).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.fault().await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.fault().await?;
        self.inner.copy_opts(from, to, options).await
    }
}

/// Goes on when it is told to.
#[derive(Debug, Default)]
struct Hand(Mutex<Duration>);

impl Clock for Hand {
    fn wall(&self) -> Micros {
        1_000_000_000 + self.elapsed().as_micros() as Micros
    }

    fn elapsed(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

/// The store under test, and what it will meet.
struct Tried {
    store: Patient,
    faults: Arc<Mutex<VecDeque<Fault>>>,
}

impl Tried {
    fn meet(&self, faults: &[Fault]) {
        *self.faults.lock().unwrap() = faults.iter().copied().collect();
    }
}

impl std::ops::Deref for Tried {
    type Target = Patient;

    fn deref(&self) -> &Patient {
        &self.store
    }
}

fn patient(faults: &[Fault]) -> Tried {
    let scripted = Scripted { inner: Arc::new(InMemory::new()), faults: Arc::default() };
    let tried = Tried {
        faults: Arc::clone(&scripted.faults),
        store: Patient {
            inner: Arc::new(scripted),
            watch: Watch::new("scripted".into()),
            retry: Retry { first: Duration::ZERO, max: Duration::ZERO, stalled: Duration::from_millis(100) },
            gives_up: true,
        },
    };
    tried.meet(faults);
    tried
}

fn path(text: &str) -> Path {
    Path::from(text)
}

fn create() -> PutOptions {
    PutOptions { mode: PutMode::Create, ..PutOptions::default() }
}

async fn text(store: &Patient, at: &str) -> String {
    let bytes = store.get(&path(at)).await.unwrap().bytes().await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn whatever_a_put_meets_it_is_made_once() {
    for mode in [PutMode::Overwrite, PutMode::Create] {
        for faults in [
            &[Refused, Refused, Refused][..],
            &[ReplyLost],
            &[Silent, ReplyLost],
            // The look that follows a lost reply fails as well.
            &[ReplyLost, Refused, Silent],
            &[SaidToBeThere],
            &[Conflict],
            &[Conflict, Refused, Silent],
            // The one in the middle is for the look, which finds nothing.
            &[Refused, BreaksOff, SaidToBeThere],
            &[Refused, BreaksOff, Conflict],
        ] {
            if mode == PutMode::Overwrite && (faults.contains(&SaidToBeThere) || faults.contains(&Conflict)) {
                continue;
            }
            let store = patient(faults);
            let options = PutOptions { mode: mode.clone(), ..PutOptions::default() };
            store.put_opts(&path("a"), "ours".into(), options).await.unwrap();
            assert_eq!(text(&store, "a").await, "ours", "{mode:?} {faults:?}");
        }
    }
}

#[tokio::test]
async fn what_is_anothers_is_never_taken_for_ours() {
    for faults in [&[][..], &[Refused], &[Refused, Refused, Silent], &[Silent, BreaksOff]] {
        let store = patient(&[]);
        store.put_opts(&path("a"), "theirs".into(), create()).await.unwrap();
        store.meet(faults);
        let error = store.put_opts(&path("a"), "ours!!".into(), create()).await.unwrap_err();
        assert!(matches!(error, Error::AlreadyExists { .. }), "{faults:?}: {error}");
        assert_eq!(text(&store, "a").await, "theirs");
    }
}

#[tokio::test]
async fn an_update_is_made_once_and_only_of_what_it_was() {
    for faults in [&[Refused][..], &[ReplyLost], &[Silent, Refused, Silent]] {
        let store = patient(&[]);
        let first = store.put(&path("a"), "one".into()).await.unwrap();
        let update = |first: &PutResult| PutOptions {
            mode: PutMode::Update(UpdateVersion { e_tag: first.e_tag.clone(), version: None }),
            ..PutOptions::default()
        };
        store.meet(faults);
        store.put_opts(&path("a"), "two".into(), update(&first)).await.unwrap();
        assert_eq!(text(&store, "a").await, "two", "{faults:?}");
        store.meet(faults);
        let error = store.put_opts(&path("a"), "three".into(), update(&first)).await.unwrap_err();
        assert!(matches!(error, Error::Precondition { .. }), "{faults:?}: {error}");
    }
}

#[tokio::test]
async fn bodies_and_listings_that_break_off_are_had_whole() {
    let store = patient(&[]);
    for name in ["a/1", "a/2", "a/3", "b/1"] {
        store.put(&path(name), name.into()).await.unwrap();
    }
    store.meet(&[BreaksOff, Refused, Silent]);
    assert_eq!(text(&store, "a/2").await, "a/2");
    store.meet(&[BreaksOff, Refused, BreaksOff]);
    let listed = store.list(Some(&path("a"))).map_ok(|meta| meta.location.to_string());
    assert_eq!(listed.try_collect::<Vec<_>>().await.unwrap(), ["a/1", "a/2", "a/3"]);
}

#[tokio::test]
async fn what_is_deleted_is_gone() {
    let store = patient(&[]);
    for name in ["a", "b", "c"] {
        store.put(&path(name), name.into()).await.unwrap();
    }
    // The first goes with the first attempt, and is asked for again with the second.
    store.meet(&[BreaksOff, Refused, Silent]);
    let doomed = stream::iter(["a", "b"].map(|name| Ok(path(name)))).boxed();
    let gone: Vec<Path> = store.delete_stream(doomed).try_collect().await.unwrap();
    assert_eq!(gone, [path("a"), path("b")]);
    let left: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
    assert_eq!(left.len(), 1);
}

#[tokio::test]
async fn a_refusal_ends_a_start_and_is_waited_for_afterwards() {
    let store = patient(&[Forbidden]);
    let error = store.put(&path("a"), "x".into()).await.unwrap_err();
    assert!(is_refusal(&error), "{error}");
    let store = patient(&[Forbidden, Forbidden]);
    store.watch.running();
    store.put(&path("a"), "x".into()).await.unwrap();
    let status = store.watch.status();
    assert!(status.last_error.is_some_and(|error| error.contains("the key has expired")));
    assert_eq!(status.retries, 2);
}

#[tokio::test]
async fn answers_are_handed_on() {
    let store = patient(&[]);
    store.watch.running();
    let missing = store.get(&path("a")).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
    assert_eq!(store.watch.status().retries, 0);
}

#[test]
fn the_watch_tells_an_outage_from_a_hiccup() {
    let hand = Arc::new(Hand::default());
    let watch = Watch::by(Arc::clone(&hand) as _, "s3://bucket".into());
    let pass = |seconds| *hand.0.lock().unwrap() += Duration::from_secs(seconds);
    let away = || watch.status().away;
    let mut one = watch.begin();
    one.failed(&failed("503"));
    pass(1);
    one.failed(&failed("503"));
    assert!(!away(), "it may be a hiccup");
    one.answered();
    assert_eq!(watch.longest_wait(), Duration::ZERO);

    pass(9);
    let (mut one, mut two) = (watch.begin(), watch.begin());
    pass(3);
    one.failed(&failed("no route"));
    two.failed(&failed("no route"));
    assert_eq!((watch.status().since, watch.longest_wait()), (1_010_000_000, Duration::from_secs(3)));
    assert!(away());
    one.answered();
    assert!(away(), "another still waits");
    // Whoever goes has not been answered.
    drop(two);
    assert!(away());
    pass(7);
    watch.begin().answered();
    assert!(!away());
    let status = watch.status();
    assert_eq!((status.since, status.retries), (1_020_000_000, 4));
    assert_eq!(status.last_error_at, Some(1_013_000_000));
}
