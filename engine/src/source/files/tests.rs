//! Files of lines: cut anywhere, compressed, resumed, and broken.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::ErrorKind;
use crate::source::{BatchLimit, NO_TIMESTAMP, Polled, RawBatch, Reading, fingerprint};

fn spec(location: impl ToString) -> FilesSpec {
    FilesSpec { location: location.to_string(), properties: BTreeMap::new() }
}

fn open(location: impl ToString, offset: i64) -> Result<Box<dyn Reader>> {
    Files::find(&spec(location), &FilesRoots::Anywhere)?
        .open(&[(PARTITION, Offset(offset)).into()], Reading::little(true))
}

/// The records from an offset to the end, joined by commas.
fn read(location: impl ToString, offset: i64, limit: BatchLimit) -> Result<String> {
    let mut reader = open(location, offset)?;
    let (mut next, mut values) = (offset, Vec::new());
    loop {
        let mut batch = RawBatch::default();
        match reader.poll(&mut batch, limit, Duration::from_secs(20))? {
            Polled::Records { .. } => {
                let count = batch.offsets.len() as i64;
                assert_eq!(batch.offsets, (next..next + count).collect::<Vec<_>>());
                assert!(batch.timestamps.iter().all(|&time| time == NO_TIMESTAMP));
                assert_eq!((batch.timestamps.len(), batch.keys.len()), (count as usize, count as usize));
                next += count;
                assert_eq!(batch.ranges().collect::<Vec<_>>(), [(PARTITION, 0..count as usize)]);
                let value = |index| String::from_utf8(batch.records.value(index).unwrap().to_vec()).unwrap();
                values.extend((0..count as usize).map(value));
            }
            Polled::Ended(PARTITION) => break,
            polled => panic!("{polled:?}"),
        }
    }
    let said = reader.poll(&mut RawBatch::default(), limit, Duration::ZERO)?;
    assert_eq!(said, Polled::Nothing, "a source ends once");
    assert_eq!(reader.ends(), [(PARTITION, Offset(next))]);
    Ok(values.join(","))
}

const LIMIT: BatchLimit = BatchLimit { rows: 1000, bytes: 1 << 20 };

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn of(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).display().to_string()
}

#[test]
fn files_are_one_partition_in_the_order_of_their_names() {
    let zstd = zstd::stream::encode_all(&b"f\ng"[..], 1).unwrap();
    let dir = folder(&[
        ("b.json", b"c\n\nd"),
        ("a.json", b"a\r\nb\r\n"),
        ("c/x.json.gz", &gzip(b"e\n")),
        ("c/y.json.zst", &zstd),
        ("empty.json", b""),
        ("_SUCCESS", b"no"),
        (".hidden/z.json", b"no"),
        ("z space é.json", b"h"),
    ]);
    let all = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for from in 0..=all.len() {
        for rows in [1, 3, 100] {
            let limit = BatchLimit { rows, bytes: 1 << 20 };
            assert_eq!(read(of(&dir, ""), from as i64, limit).unwrap(), all[from..].join(","), "from {from}");
        }
    }
    let read = |location: String| read(location, 0, LIMIT).unwrap();
    assert_eq!(read(of(&dir, "*.json")), "a,b,c,d,h");
    assert_eq!(read(of(&dir, "b.json")), "c,d");
    assert_eq!(read(of(&dir, "c")), "e,f,g");
    assert_eq!(read(format!("file://{}", of(&dir, "c/*.gz"))), "e");
}

/// As many records, and as many bytes, as those that were read before.
#[test]
fn other_files_than_before_are_not_gone_on_with() {
    let resumed = |dir: &tempfile::TempDir, next: i64, last: &str| {
        let last_record = Some(fingerprint(next - 1, NO_TIMESTAMP, Some(last.as_bytes())));
        let assigned = Assignment { partition: PARTITION, next_offset: Offset(next), last_record };
        let mut files = Files::find(&spec(of(dir, "")), &FilesRoots::Anywhere).unwrap();
        let mut reader = files.open(&[assigned], Reading::little(true)).unwrap();
        let mut batch = RawBatch::default();
        let polled = reader.poll(&mut batch, LIMIT, Duration::from_secs(20))?;
        let first = if batch.is_empty() { None } else { batch.records.value(0).map(<[u8]>::to_vec) };
        Ok::<_, crate::Error>((polled, first))
    };
    let dir = folder(&[("a.json", b"a\n\nb"), ("b.json", b"c\nd\n")]);
    for (next, last, first) in [(1, "a", "b"), (2, "b", "c"), (3, "c", "d")] {
        let (polled, value) = resumed(&dir, next, last).unwrap();
        assert_eq!((polled, value), (Polled::Records { more: true }, Some(first.into())), "from {next}");
    }
    assert_eq!(resumed(&dir, 4, "d").unwrap().0, Polled::Ended(PARTITION));
    for (next, last) in [(1, "x"), (3, "x"), (4, "x")] {
        let error = resumed(&dir, next, last).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadData);
        assert!(error.to_string().contains("other records than were read from them before"), "{error}");
    }
    let error = resumed(&dir, 5, "e").unwrap_err();
    assert!(error.to_string().contains("wanted offset=5, records=4"), "{error}");
}

#[test]
fn records_over_several_chunks_come_whole() {
    let record = |number: usize| format!("{number}-{}", "x".repeat(number * 100_000));
    let text: String = (0..20).map(|number| record(number) + "\n").collect();
    assert!(text.len() > 16 << 20);
    let expected: Vec<String> = (0..20).map(record).collect();
    let zstd = zstd::stream::encode_all(text.as_bytes(), 1).unwrap();
    let dir =
        folder(&[("a.json", text.as_bytes()), ("a.json.gz", &gzip(text.as_bytes())), ("a.json.zst", &zstd)]);
    for name in ["a.json", "a.json.gz", "a.json.zst"] {
        assert!(read(of(&dir, name), 0, LIMIT).unwrap() == expected.join(","), "{name}");
        assert!(read(of(&dir, name), 17, LIMIT).unwrap() == expected[17..].join(","), "{name}");
    }
}

#[test]
fn concatenated_compressed_files_are_read_whole() {
    let mut gz = gzip(b"a\nb");
    gz.extend(gzip(b"b\nc\n"));
    let mut zst = zstd::stream::encode_all(&b"a\nb"[..], 1).unwrap();
    zst.extend(zstd::stream::encode_all(&b"b\nc\n"[..], 1).unwrap());
    let dir = folder(&[("a.gz", &gz), ("a.zst", &zst)]);
    for name in ["a.gz", "a.zst"] {
        assert_eq!(read(of(&dir, name), 0, LIMIT).unwrap(), "a,bb,c", "{name}");
    }
}

#[test]
fn a_damaged_or_cut_file_is_bad_data_and_named() {
    let text: String = (0..100_000).map(|number| format!("{}\n", number * 7919 % 10_007)).collect();
    let (gz, zst) = (gzip(text.as_bytes()), zstd::stream::encode_all(text.as_bytes(), 1).unwrap());
    let dir = folder(&[
        ("cut.gz", &gz[..gz.len() - 9]),
        ("cut.zst", &zst[..zst.len() - 9]),
        ("not.gz", b"plain\n"),
        ("not.zst", b"plain\n"),
    ]);
    for name in ["cut.gz", "cut.zst", "not.gz", "not.zst"] {
        let error = read(of(&dir, name), 0, LIMIT).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::BadData, "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_resume_past_the_end_is_bad_data() {
    let dir = folder(&[("a.json", b"a\nb\n")]);
    let error = read(of(&dir, "a.json"), 3, LIMIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadData);
    assert!(error.to_string().contains("wanted offset=3, records=2"), "{error}");
}

#[test]
fn a_file_that_vanishes_is_bad_data() {
    let dir = folder(&[("a.json", b"a\n"), ("b.json", b"b\n")]);
    let mut reader = open(of(&dir, ""), 0).unwrap();
    std::fs::remove_file(dir.path().join("b.json")).unwrap();
    let mut error = None;
    while error.is_none() {
        error = reader.poll(&mut RawBatch::default(), LIMIT, Duration::from_secs(20)).err();
    }
    let error = error.unwrap();
    assert_eq!(error.kind(), ErrorKind::BadData);
    assert!(error.to_string().contains("b.json"), "{error}");
}

#[test]
fn an_endless_line_is_not_waited_for() {
    let dir = folder(&[("a.json", b"")]);
    let file = std::fs::File::create(dir.path().join("a.json")).unwrap();
    file.set_len(80 << 20).unwrap(); // zeros, and no line's end
    let error = read(of(&dir, "a.json"), 0, LIMIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadData);
    assert!(error.to_string().contains("a.json"), "{error}");
}

#[test]
fn what_is_wrong_with_a_location_is_said() {
    let dir = folder(&[("a.json", b"a")]);
    let local = FilesSpec { properties: [("region".into(), "x".into())].into(), ..spec(of(&dir, "a.json")) };
    let s3 = FilesSpec { properties: [("regoin".into(), "x".into())].into(), ..spec("s3://bucket/a") };
    for (spec, said) in [
        (spec(of(&dir, "b.json")), "no file is there to read"),
        (spec(of(&dir, "*.csv")), "no file is there to read"),
        (spec(""), "it is empty"),
        (spec("ftp://host/x"), "ftp:// is not read"),
        (local, "a local file has no properties"),
        (s3, "key=\"regoin\""),
    ] {
        let error = Files::find(&spec, &FilesRoots::Anywhere).err().expect(said);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    let mut files = Files::find(&spec(of(&dir, "a.json")), &FilesRoots::Anywhere).unwrap();
    assert_eq!(files.resolve(PARTITION, Start::Earliest).unwrap(), Offset(0));
    assert_eq!(files.resolve(PARTITION, Start::Latest).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn an_async_thread_may_use_the_source() {
    let dir = folder(&[("a.json", b"a\nb\n")]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(async { read(of(&dir, "a.json"), 0, LIMIT).unwrap() }), "a,b");
    assert!(Path::new(&of(&dir, "a.json")).exists());
}

#[test]
fn links_and_dots_do_not_lead_out_of_the_roots() {
    let dir = folder(&[("in/a.json", b"1\n"), ("out/b.json", b"2\n")]);
    let roots = FilesRoots::below(&[dir.path().join("in")]).unwrap();
    let refused = |location: String| match Files::find(&spec(&location), &roots) {
        Ok(_) => panic!("{location} is read"),
        // A path with dots is none, and a URL has lost them.
        Err(error) => {
            let error = error.to_string();
            assert!(
                error.contains("leads out of the folders") || error.contains("sequence \"..\""),
                "{error}"
            );
        }
    };
    Files::find(&spec(of(&dir, "in")), &roots).unwrap();
    for location in ["in/../out/b.json", "in/not-there/../../out", "out/*.json", "in/../in/../out"] {
        refused(of(&dir, location));
        refused(format!("file://{}", of(&dir, location)));
    }
    // One link among the files of a folder.
    std::os::unix::fs::symlink(dir.path().join("out/b.json"), dir.path().join("in/c.json")).unwrap();
    for location in ["in", "in/*.json", "in/c.json"] {
        refused(of(&dir, location));
    }
    Files::find(&spec(of(&dir, "in/a.json")), &roots).unwrap();
}
