use kube::api::ObjectMeta;
use serde_json::json;

use super::*;

#[test]
fn an_object_is_another_one_by_what_its_writer_wishes() {
    let meta = |over: &[(&str, serde_json::Value)]| -> ObjectMeta {
        let mut meta = json!({
            "name": "east", "uid": "u", "generation": 1, "resourceVersion": "1",
            "labels": {"a": "b"}, "annotations": {"c": "d"},
        });
        over.iter().for_each(|(field, value)| meta[*field] = value.clone());
        serde_json::from_value(meta).unwrap()
    };
    let was = meta(&[]);
    assert!(same_wish(&was, &meta(&[("resourceVersion", json!("2"))])), "a status that was written is nobody's wish");
    let deleted = json!("2026-06-01T12:00:00Z");
    for (field, value) in [
        ("uid", json!("v")),
        ("generation", json!(2)),
        ("labels", json!({"a": "c"})),
        ("annotations", json!({})),
        ("deletionTimestamp", deleted.clone()),
    ] {
        assert!(!same_wish(&was, &meta(&[(field, value)])), "{field}");
    }
    let later = [("deletionTimestamp", json!("2026-06-01T12:00:01Z"))];
    assert!(same_wish(&meta(&[("deletionTimestamp", deleted)]), &meta(&later)));
}
