//! Every way to name somebody in a message: the descriptors are walked, so a field that is added
//! tomorrow is tried as well.

use dockctl_api::DESCRIPTORS;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};

/// What is said in the place of a text, and of a number.
#[derive(Clone)]
pub struct Lie {
    pub text: String,
    pub number: u64,
}

/// A message of type `name` for each field at any depth that can hold a text or a number, with the
/// lie in that field and nothing else said.
pub fn each_field<T: Message + Default>(name: &str, lie: &Lie) -> Vec<(String, T)> {
    messages(&descriptor(name), lie)
        .into_iter()
        .map(|(path, message)| {
            (path, T::decode(message.encode_to_vec().as_slice()).expect("the same type"))
        })
        .collect()
}

/// One message of this type that lies wherever it can.
pub fn everywhere(descriptor: &MessageDescriptor, lie: &Lie) -> Vec<u8> {
    // Singular fields are overwritten by the last one, lists and maps grow.
    messages(descriptor, lie).into_iter().flat_map(|(_, m)| m.encode_to_vec()).collect()
}

pub fn descriptor(name: &str) -> MessageDescriptor {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    pool.get_message_by_name(name).unwrap_or_else(|| panic!("no message is called {name}"))
}

fn messages(descriptor: &MessageDescriptor, lie: &Lie) -> Vec<(String, DynamicMessage)> {
    let mut all = Vec::new();
    for field in descriptor.fields() {
        for (path, value) in values(&field, lie) {
            let mut message = DynamicMessage::new(descriptor.clone());
            message.set_field(&field, value);
            all.push((format!("{}{path}", field.name()), message));
        }
    }
    all
}

fn values(field: &FieldDescriptor, lie: &Lie) -> Vec<(String, Value)> {
    if field.is_map() {
        let text = || Value::String(lie.text.clone());
        let map = [(MapKey::String(lie.text.clone()), text())].into();
        return vec![("[]".to_owned(), Value::Map(map))];
    }
    let single = match field.kind() {
        Kind::String => vec![(String::new(), Value::String(lie.text.clone()))],
        Kind::Bytes => vec![(String::new(), Value::Bytes(lie.text.clone().into()))],
        Kind::Uint64 => vec![(String::new(), Value::U64(lie.number))],
        Kind::Message(inner) => messages(&inner, lie)
            .into_iter()
            .map(|(path, message)| (format!(".{path}"), Value::Message(message)))
            .collect(),
        _ => Vec::new(),
    };
    if field.is_list() {
        return single.into_iter().map(|(path, v)| (path, Value::List(vec![v]))).collect();
    }
    single
}
