//! The module as Python sees it: `decode` and `Block`. The types are in `wafermonitor/native.pyi`.

use std::collections::HashMap;

use pyo3::exceptions::{PyIndexError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::copy::{CopyBinary, Numbers};
use crate::decode::{Request, decode as decode_requests};
use crate::encoder::{RowEncoder, Unnumbered};
use crate::part::{self, Chosen, Mark};
use crate::records::{self, Ends, Place, Signal};
use crate::rowbinary::{self, Precedence, RowBinary};

/// How a block's rows are written: `storage.protocol.RowFormat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    CopyBinary,
    RowBinary,
}

impl Format {
    fn named(name: &str) -> PyResult<Self> {
        let found = [Self::CopyBinary, Self::RowBinary].into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| PyValueError::new_err(format!("{name:?} is no format of rows")))
    }

    fn name(self) -> &'static str {
        match self {
            Self::CopyBinary => "copy_binary",
            Self::RowBinary => "row_binary",
        }
    }
}

/// What a list of requests became; the rows are written when the writer says what they lack.
#[pyclass(frozen, module = "wafermonitor.native")]
struct Block(records::Block, Format);

/// Decode requests: (signal, body, when it was received in ns) to rows of `row_format`. `arrivals`: as in `decode::Arrivals`.
/// Never fails for a body, however broken.
#[pyfunction]
#[pyo3(signature = (requests, arrivals, row_format = "copy_binary", /))]
#[allow(clippy::needless_pass_by_value)] // what Python hands over is taken
fn decode(
    py: Python<'_>,
    requests: Vec<(String, Bound<'_, PyBytes>, i64)>,
    arrivals: HashMap<[u8; 32], i64>,
    row_format: &str,
) -> PyResult<Block> {
    let format = Format::named(row_format)?;
    let requests = requests
        .iter()
        .map(|(signal, body, received_ns)| {
            let signal = Signal::named(signal).ok_or_else(|| PyValueError::new_err(format!("{signal:?} is no signal")))?;
            Ok(Request { signal, body: body.as_bytes(), received_ns: *received_ns })
        })
        .collect::<PyResult<Vec<_>>>()?;
    // A panic would be a fault of ours; as a BaseException it would end more than the group it came from.
    let decoded = py.detach(|| {
        std::panic::catch_unwind(|| match format {
            Format::CopyBinary => decode_requests(&requests, &arrivals, &CopyBinary),
            Format::RowBinary => decode_requests(&requests, &arrivals, &RowBinary),
        })
    });
    decoded
        .map(|block| Block(block, format))
        .map_err(|_| PyRuntimeError::new_err("the native lane failed in an unexpected way"))
}

type NumbersArgument = (Vec<i16>, Vec<i32>, Vec<i32>, Vec<i32>, Vec<i32>);
type Streams<'py> = (Bound<'py, PyBytes>, usize, Bound<'py, PyBytes>, usize);

fn numbers_of((sites, apps, resources, scopes, series): NumbersArgument) -> Numbers {
    Numbers { sites, apps, resources, scopes, series }
}

fn unnumbered(_: Unnumbered) -> PyErr {
    PyValueError::new_err("a name of the block has no number")
}

impl Block {
    /// The ends around the requests [first, last) of a block whose rows have this format.
    fn formatted(&self, format: Format, first: usize, last: usize) -> PyResult<(Ends, Ends)> {
        self.needs(format)?;
        self.between(first, last)
    }

    fn needs(&self, format: Format) -> PyResult<()> {
        if self.1 == format {
            return Ok(());
        }
        Err(PyValueError::new_err(format!("the rows of the block are {}, not {}", self.1.name(), format.name())))
    }

    fn between(&self, first: usize, last: usize) -> PyResult<(Ends, Ends)> {
        let found = self.0.between(first, last);
        found.ok_or_else(|| {
            PyIndexError::new_err(format!("a block of {} requests has no [{first}, {last})", self.0.outcomes.len()))
        })
    }

    fn text(&self, place: Place) -> &str {
        place.of(&self.0.arena).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    fn site(&self, number: u32) -> &str {
        self.0.sites.get(number as usize).map_or("", String::as_str)
    }

    fn streams<'py, M: Mark + Sync>(
        &self,
        py: Python<'py>,
        marks: &[M],
        range: std::ops::Range<usize>,
        numbers: &Numbers,
        hot_us: std::ops::Range<i64>,
    ) -> PyResult<Streams<'py>> {
        let (hot, late) = py.detach(|| part::choose(marks, range, &self.0, hot_us));
        let stream = |chosen: &Chosen| self.stream(py, marks, chosen, numbers, &CopyBinary);
        Ok((stream(&hot)?, hot.len(), stream(&late)?, late.len()))
    }

    fn stream<'py, M: Mark + Sync, E: RowEncoder<Given: Sync> + Sync>(
        &self,
        py: Python<'py>,
        marks: &[M],
        chosen: &Chosen,
        given: &E::Given,
        encoder: &E,
    ) -> PyResult<Bound<'py, PyBytes>> {
        PyBytes::new_with(py, chosen.stream_len::<E>(), |out| {
            py.detach(|| part::write(chosen, marks, &self.0, given, encoder, out)).map_err(unnumbered)
        })
    }

    fn every<'py, M: Mark + Sync>(
        &self,
        py: Python<'py>,
        marks: &[M],
        range: std::ops::Range<usize>,
        given: Precedence,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let chosen = part::all(marks, range, &self.0);
        self.stream(py, marks, &chosen, &given, &RowBinary)
    }
}

#[pymethods]
impl Block {
    #[getter]
    fn outcomes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let rows =
            self.0.outcomes.iter().map(|outcome| {
                (outcome.items, outcome.rows, outcome.rejected, &outcome.message, outcome.repaired, &outcome.error)
            });
        PyList::new(py, rows.collect::<Vec<_>>())
    }

    #[getter]
    fn timeless<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let requests = self.0.ends.windows(2).enumerate();
        let pairs = requests.flat_map(|(number, ends)| {
            self.0.timeless[ends[0].timeless..ends[1].timeless].iter().map(move |digest| (number, PyBytes::new(py, digest)))
        });
        PyList::new(py, pairs.collect::<Vec<_>>())
    }

    #[getter]
    fn sites(&self) -> &[String] {
        &self.0.sites
    }

    #[getter]
    fn resources<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        list(py, &self.0.resources, |one| {
            let process_key = one.process_key.as_ref().map(|key| PyBytes::new(py, key));
            let (key, site) = (PyBytes::new(py, &one.key), self.site(one.site));
            (key, site, &one.feed, &one.service, &one.service_version, process_key, &one.attributes).into_pyobject(py)
        })
    }

    #[getter]
    fn scopes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        list(py, &self.0.scopes, |one| (PyBytes::new(py, &one.key), &one.name, &one.version, &one.attributes).into_pyobject(py))
    }

    #[getter]
    fn series<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let mut shared = Shared::default();
        list(py, &self.0.series, |one| {
            let key = PyBytes::new(py, &one.key);
            let (name, unit) = (shared.text(py, &one.name), shared.text(py, &one.unit));
            let described =
                (key, one.resource, one.scope, name, unit, one.kind, one.temporality, one.monotonic, &one.attributes);
            described.into_pyobject(py)
        })
    }

    #[pyo3(signature = (table, first, last, numbers, oldest_us, newest_us))]
    #[allow(clippy::too_many_arguments)] // the Block protocol of wafermonitor.storage has them
    fn rows<'py>(
        &self,
        py: Python<'py>,
        table: &str,
        first: usize,
        last: usize,
        numbers: NumbersArgument,
        oldest_us: i64,
        newest_us: i64,
    ) -> PyResult<Streams<'py>> {
        let (from, to) = self.formatted(Format::CopyBinary, first, last)?;
        let (numbers, hot_us) = (numbers_of(numbers), oldest_us..newest_us);
        match table {
            "span" => self.streams(py, &self.0.spans, from.spans..to.spans, &numbers, hot_us),
            "log_record" => self.streams(py, &self.0.logs, from.logs..to.logs, &numbers, hot_us),
            "metric_point" => self.streams(py, &self.0.points, from.points..to.points, &numbers, hot_us),
            _ => Err(PyValueError::new_err(format!("{table:?} is no table of rows"))),
        }
    }

    #[pyo3(signature = (first, last, numbers))]
    fn runs<'py>(
        &self,
        py: Python<'py>,
        first: usize,
        last: usize,
        numbers: NumbersArgument,
    ) -> PyResult<(Bound<'py, PyBytes>, usize)> {
        let (from, to) = self.formatted(Format::CopyBinary, first, last)?;
        let numbers = numbers_of(numbers);
        let written = py.detach(|| {
            let runs = part::merged(&self.0, from.runs..to.runs);
            part::write_runs(&self.0, &runs, &numbers, &CopyBinary).map(|stream| (stream, runs.len()))
        });
        let (stream, rows) = written.map_err(unnumbered)?;
        Ok((PyBytes::new(py, &stream), rows))
    }

    #[pyo3(signature = (table, first, last, precedence))]
    fn row_binary<'py>(
        &self,
        py: Python<'py>,
        table: &str,
        first: usize,
        last: usize,
        precedence: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let (from, to) = self.formatted(Format::RowBinary, first, last)?;
        let given = Precedence(precedence);
        match table {
            "span" => self.every(py, &self.0.spans, from.spans..to.spans, given),
            "log_record" => self.every(py, &self.0.logs, from.logs..to.logs, given),
            "metric_point" => self.every(py, &self.0.points, from.points..to.points, given),
            _ => Err(PyValueError::new_err(format!("{table:?} is no table of rows"))),
        }
    }

    #[pyo3(signature = (first, last, call))]
    fn run_rows<'py>(
        &self,
        py: Python<'py>,
        first: usize,
        last: usize,
        call: [u8; 6],
    ) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let (from, to) = self.formatted(Format::RowBinary, first, last)?;
        let written = py.detach(|| {
            let runs = self.0.runs.get(from.runs..to.runs).unwrap_or_default();
            let changes = rowbinary::changes(runs, &self.0, call)?;
            Ok((part::write_runs(&self.0, runs, &Precedence(0), &RowBinary)?, changes))
        });
        let (rows, changes) = written.map_err(unnumbered)?;
        Ok((PyBytes::new(py, &rows), PyBytes::new(py, &changes)))
    }

    #[pyo3(signature = (table, seen_s))]
    fn name_rows<'py>(&self, py: Python<'py>, table: &str, seen_s: u32) -> PyResult<Bound<'py, PyList>> {
        self.needs(Format::RowBinary)?;
        let block = &self.0;
        let pair = |key: &[u8; 32], row: Result<Vec<u8>, Unnumbered>| {
            (PyBytes::new(py, key), PyBytes::new(py, &row.map_err(unnumbered)?)).into_pyobject(py)
        };
        match table {
            "resource" => list(py, &block.resources, |one| pair(&one.key, rowbinary::resource(one, block, seen_s))),
            "scope" => list(py, &block.scopes, |one| pair(&one.key, Ok(rowbinary::scope(one, seen_s)))),
            "metric_series" => list(py, &block.series, |one| pair(&one.key, rowbinary::series(one, block, seen_s))),
            _ => Err(PyValueError::new_err(format!("{table:?} is no table of names"))),
        }
    }

    #[pyo3(signature = (first, last))]
    fn processes<'py>(&self, py: Python<'py>, first: usize, last: usize) -> PyResult<Bound<'py, PyList>> {
        let (from, to) = self.between(first, last)?;
        let mut shared = Shared::default();
        list(py, &self.0.processes[from.processes..to.processes], |beat| {
            let (host, instance) = (shared.text(py, self.text(beat.host)), shared.text(py, self.text(beat.instance_id)));
            (
                PyBytes::new(py, &beat.key),
                shared.text(py, self.site(beat.site)),
                host,
                beat.pid,
                instance,
                beat.beat_ns,
                beat.interval_s,
            )
                .into_pyobject(py)
        })
    }

    #[pyo3(signature = (first, last))]
    fn feeds<'py>(&self, py: Python<'py>, first: usize, last: usize) -> PyResult<Bound<'py, PyList>> {
        let (from, to) = self.between(first, last)?;
        let mut shared = Shared::default();
        list(py, &self.0.feeds[from.feeds..to.feeds], |beat| {
            let (site, feed) = (shared.text(py, self.site(beat.site)), shared.text(py, self.text(beat.feed)));
            (site, feed, beat.beat_ns, beat.received_ns, beat.skew_ns).into_pyobject(py)
        })
    }

    #[pyo3(signature = (first, last))]
    fn dead<'py>(&self, py: Python<'py>, first: usize, last: usize) -> PyResult<Bound<'py, PyList>> {
        let (from, to) = self.between(first, last)?;
        let mut shared = Shared::default();
        list(py, &self.0.dead[from.dead..to.dead], |letter| {
            let sample = PyBytes::new(py, letter.sample.of(&self.0.arena).unwrap_or_default());
            (shared.text(py, self.site(letter.site)), letter.signal.name(), &letter.reason, sample, letter.received_ns)
                .into_pyobject(py)
        })
    }

    #[pyo3(signature = (first, last))]
    fn apps(&self, first: usize, last: usize) -> PyResult<Vec<(u32, i64)>> {
        let (from, to) = self.between(first, last)?;
        let mut newest: Vec<(u32, i64)> = Vec::new();
        let mut heard = self.0.heard[from.heard..to.heard].to_vec();
        heard.sort_unstable();
        for (resource, received_ns) in heard {
            match newest.last_mut() {
                Some(last) if last.0 == resource => last.1 = received_ns,
                _ => newest.push((resource, received_ns)),
            }
        }
        Ok(newest)
    }
}

/// Texts of Python's by where they stand here, so that what many rows have is one object there as well.
#[derive(Default)]
struct Shared<'py>(HashMap<(usize, usize), Bound<'py, PyString>>);

impl<'py> Shared<'py> {
    fn text(&mut self, py: Python<'py>, text: &str) -> Bound<'py, PyString> {
        let place = (text.as_ptr().addr(), text.len());
        self.0.entry(place).or_insert_with(|| PyString::new(py, text)).clone()
    }
}

fn list<'py, T>(
    py: Python<'py>,
    items: &[T],
    show: impl FnMut(&T) -> PyResult<Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, items.iter().map(show).collect::<PyResult<Vec<_>>>()?)
}

/// `wafermonitor.native`
#[pymodule]
fn native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Block>()?;
    module.add_function(wrap_pyfunction!(decode, module)?)
}
