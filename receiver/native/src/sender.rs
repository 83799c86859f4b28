//! Who sends: the resource and the instrumentation scope of a group of items.

use crate::digest::{digest, process_key};
use crate::lifecycle::integer;
use crate::marks::Marks;
use crate::names;
use crate::records::{Place, Resource, Scope, keep};
use crate::reject::Reject;
use crate::text::{marked_label, repaired};
use crate::value::{Any, Attributes, Pair};
use crate::wire::{Field, Reader};

/// The site of a resource that names none.
pub const UNSET_SITE: &str = "unset";
const UNNAMED_SERVICE: &str = "unknown_service";

/// A resource, and what it says about runs. Texts stand in the block's arena.
#[derive(Debug)]
#[allow(missing_docs)] // named as in `runs.lifecycle.Origin`
pub struct Sender {
    pub site: String,
    pub feed: Place,
    pub service: Place,
    /// As rows have it: never without a name.
    pub shown_service: String,
    pub service_version: Place,
    pub host: Place,
    pub pid: i64,
    pub instance_id: Place,
    pub process_key: Option<[u8; 16]>,
    pub key: [u8; 32],
    /// Kept until an item needs it; then it gets a number.
    pub resource: Option<Resource>,
    /// Its position in `Block::resources`, once an item needed it.
    pub number: Option<u32>,
}

/// Read a resource.
///
/// # Errors
/// The reason why nothing under it can be stored.
pub fn sender(message: &[u8], arena: &mut Vec<u8>) -> Result<Sender, Reject> {
    let mut marks = Marks::default();
    let mut attributes = read_attributes(message, 1, "resource", &mut marks)?;
    attributes.arrange(&mut marks);
    let text = |name: &str| match attributes.get(name) {
        Any::Text(raw) if !raw.is_empty() => Some(repaired(raw, &mut Marks::default())),
        _ => None,
    };
    let site = text(names::WAFER_SITE_ID).unwrap_or(UNSET_SITE.into());
    let host = text(names::HOST_NAME).unwrap_or_default();
    let pid = integer(attributes.get(names::PROCESS_PID)).unwrap_or(0);
    let instance_id = text(names::SERVICE_INSTANCE_ID).unwrap_or_default();
    let process_key = (pid != 0 || !instance_id.is_empty()).then(|| process_key(&site, &host, pid, &instance_id));
    let site = marked_label(&site, &mut marks).to_owned();
    let mut label = |name: &str| text(name).map(|whole| marked_label(&whole, &mut marks).to_owned());
    let feed = label(names::WAFER_FEED_ID);
    let service = label(names::SERVICE_NAME);
    let service_version = label(names::SERVICE_VERSION);
    let json = object(&attributes, marks);
    let key = digest(&[site.as_bytes(), json.as_bytes()]);
    let shown_service = service.clone().unwrap_or_else(|| UNNAMED_SERVICE.to_owned());
    let mut place = |text: &Option<String>| text.as_ref().map_or(Place::NONE, |text| keep(text.as_bytes(), arena));
    Ok(Sender {
        feed: place(&feed),
        service: place(&service),
        service_version: place(&service_version),
        host: place(&Some(host.into_owned())),
        pid,
        instance_id: place(&Some(instance_id.into_owned())),
        process_key,
        key,
        resource: Some(Resource {
            key,
            site: 0, // known when it gets a number
            feed,
            service: shown_service.clone(),
            service_version,
            process_key,
            attributes: json,
        }),
        site,
        shown_service,
        number: None,
    })
}

/// Read an instrumentation scope; one without a name is a scope as well.
///
/// # Errors
/// The reason why nothing under it can be stored.
pub fn scope(message: &[u8]) -> Result<Scope, Reject> {
    let mut marks = Marks::default();
    let (mut name, mut version) = (b"".as_slice(), b"".as_slice());
    let mut reader = Reader::new(message, 0);
    while let Some(field) = reader.next().map_err(|_| Reject::malformed("scope"))? {
        match field {
            (1, Field::Len(text)) => name = text,
            (2, Field::Len(text)) => version = text,
            _ => {}
        }
    }
    let name = repaired(name, &mut marks).into_owned();
    let version = repaired(version, &mut marks).into_owned();
    let mut attributes = read_attributes(message, 3, "scope", &mut marks)?;
    attributes.arrange(&mut marks);
    let json = object(&attributes, marks);
    Ok(Scope { key: digest(&[name.as_bytes(), version.as_bytes(), json.as_bytes()]), name, version, attributes: json })
}

/// The attributes in field `number` of a message that was checked with its request.
fn read_attributes<'a>(message: &'a [u8], number: u32, name: &str, marks: &mut Marks) -> Result<Attributes<'a>, Reject> {
    let mut attributes = Attributes::default();
    let mut reader = Reader::new(message, 0);
    while let Some(field) = reader.next().map_err(|_| Reject::malformed(name))? {
        if let (found, Field::Len(pair)) = field
            && found == number
        {
            attributes.add(Pair::read(pair, 1).map_err(|_| Reject::malformed(name))?, 0, marks)?;
        }
    }
    Ok(attributes)
}

fn object(attributes: &Attributes<'_>, marks: Marks) -> String {
    let mut json = Vec::new();
    attributes.write(marks, &mut json);
    String::from_utf8(json).unwrap_or_default()
}
