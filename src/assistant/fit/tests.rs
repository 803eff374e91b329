//! What servers list, and what the model gets.

use super::*;
use proptest::prelude::*;

fn fitted(written: Value) -> Value {
    Value::Object(schema(written.as_object().unwrap()))
}

#[test]
fn names_are_legal_unique_and_stable() {
    let long = "x".repeat(128);
    let tools = [
        ("todoist", "add-tasks"),
        ("todoist", "search"),
        ("notes", "search"),
        ("notes", "a.b"),
        ("notes", "c.d"),
        ("notes", "c d"),
        ("notes", "end_call"),
        ("notes", &long),
        ("notes", "é"),
        ("notes", "notes_a_b"),
        ("notes", ""),
    ];
    let taken = BTreeSet::from(["end_call"]);
    let made = names(&tools, &taken);
    let hashed = |name: &str, start: &str| name.starts_with(start) && name.len() == start.len() + 8;
    assert_eq!(made[..3], ["add-tasks", "todoist_search", "notes_search"]);
    assert!(hashed(&made[3], "notes_a_b_"), "{}", made[3]);
    assert!(hashed(&made[4], "notes_c_d_") && hashed(&made[5], "notes_c_d_") && made[4] != made[5]);
    assert_eq!(made[6], "notes_end_call");
    assert!(made[7].starts_with("notes_xxx") && made[7].len() == 64);
    assert_eq!((made[8].as_str(), made[9].as_str(), made[10].as_str()), ("notes__", "notes_a_b", "notes_"));
    let mut turned = tools;
    turned.reverse();
    let mut again = names(&turned, &taken);
    again.reverse();
    assert_eq!(made, again, "the order does not matter");
}

#[test]
fn schemas_become_plain_objects() {
    let table = [
        ("no type", json!({}), json!({"type": "object", "properties": {}})),
        (
            "an array without items",
            json!({"properties": {"a": {"type": "array"}}}),
            json!({"properties": {"a": {"type": "array", "items": {}}}, "type": "object"}),
        ),
        (
            "types of other languages",
            json!({"type": "dict", "properties": {
                "a": {"type": "int"}, "b": {"type": "str"}, "c": {"type": "text"}, "d": {"type": "float"}, "e": {"type": "double"},
                "f": {"type": "bool"}, "g": {"type": "dict"}, "h": {"type": "list"}, "i": {"type": "any"}, "j": {"type": ["str", "null", "string"]},
                "k": {"type": ["string", "any"]}, "l": {"type": []}, "m": {"type": 1}, "n": {"type": "STRING"}, "type": {"type": "date"},
                "o": {"anyOf": [{"type": "array", "items": {"type": "int"}}, {"type": "datetime", "description": "A day"}]}}}),
            json!({"type": "object", "properties": {
                "a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "string"}, "d": {"type": "number"}, "e": {"type": "number"},
                "f": {"type": "boolean"}, "g": {"type": "object"}, "h": {"type": "array", "items": {}}, "i": {}, "j": {"type": ["string", "null"]},
                "k": {}, "l": {}, "m": {}, "n": {"type": "string"}, "type": {},
                "o": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"description": "A day"}]}}}),
        ),
        (
            "references with descriptions",
            json!({"type": "object", "$defs": {"Day": {"type": "string", "description": "A day"}}, "properties": {
                "from": {"$ref": "#/$defs/Day"}, "to": {"$ref": "#/$defs/Day", "description": "The last"}, "x": {"$ref": "https://example.com/x"}}}),
            json!({"type": "object", "properties": {
                "from": {"type": "string", "description": "A day"}, "to": {"type": "string", "description": "The last"}, "x": {}}}),
        ),
        (
            "a schema within itself",
            json!({"type": "object", "definitions": {"Tree": {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/definitions/Tree"}}}}},
                "properties": {"tree": {"$ref": "#/definitions/Tree"}}}),
            json!({"type": "object", "properties": {"tree": {"type": "object", "properties": {"kids": {"type": "array", "items": {}}}}}}),
        ),
        (
            "arguments named like keywords",
            json!({"type": "object", "properties": {"$ref": {"type": "string"}, "definitions": {"type": "string"}, "enum": {"enum": ["a"]}}}),
            json!({"type": "object", "properties": {"$ref": {"type": "string"}, "definitions": {"type": "string"}, "enum": {"enum": ["a"]}}}),
        ),
        (
            "a choice at the top",
            json!({"oneOf": [
                {"type": "object", "properties": {"id": {"type": "string"}, "n": {"type": "integer"}}, "required": ["id", "n"]},
                {"properties": {"name": {"type": "string"}, "n": {"type": "string"}}, "required": ["name", "n"]},
                {"type": "string"}]}),
            json!({"properties": {"id": {"type": "string"}, "n": {"anyOf": [{"type": "integer"}, {"type": "string"}]}, "name": {"type": "string"}},
                "required": ["n"], "description": "Give one of these: `id` and `n`, or `name` and `n`.", "type": "object"}),
        ),
        (
            "a combination at the top, and keywords that no provider takes",
            json!({"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"$ref": "#/$defs/B"}], "not": {"required": ["c"]},
                "enum": [{}], "if": {}, "$defs": {"B": {"properties": {"b": false, "c": true}, "required": true}}}),
            json!({"properties": {"a": {"type": "string"}, "c": {}}, "required": ["a"], "type": "object"}),
        ),
        (
            "an old tuple and an old limit",
            json!({"type": ["object", "null"], "properties": {"a": {"type": "array", "items": [{"type": "string"}]}, "b": {"minimum": 1, "exclusiveMinimum": true}}}),
            json!({"type": "object", "properties": {"a": {"type": "array", "items": {"anyOf": [{"type": "string"}]}}, "b": {"minimum": 1}}}),
        ),
    ];
    for (what, written, expected) in table {
        assert_eq!(fitted(written), expected, "{what}");
    }
}

#[test]
fn fixed_arguments_are_hidden() {
    let written = json!({"type": "object", "properties": {"project": {}, "title": {}}, "required": ["project", "title"]});
    let fixed = json!({"project": "inbox"});
    let schema = without(schema(written.as_object().unwrap()), fixed.as_object().unwrap());
    assert_eq!(
        Value::Object(schema),
        json!({"type": "object", "properties": {"title": {}}, "required": ["title"]})
    );
}

#[test]
fn large_schemas_lose_their_descriptions_first() {
    let of = |words: usize, count: usize| {
        let argument = json!({"type": "string", "description": "x".repeat(words), "pattern": "y".repeat(20)});
        let properties: Map<String, Value> =
            (0..count).map(|at| (format!("argument-{at}"), argument.clone())).collect();
        fitted(json!({"properties": properties, "required": ["argument-0"]})).as_object().unwrap().clone()
    };
    let kept = small(of(100, 10)).unwrap();
    assert!(kept["properties"]["argument-0"].get("description").is_some());
    let lean = small(of(1_000, 100)).unwrap();
    assert_eq!(lean["properties"]["argument-0"], json!({"type": "string", "pattern": "y".repeat(20)}));
    let bare = small(of(1_000, 400)).unwrap();
    assert_eq!(bare["properties"]["argument-399"], json!({"type": "string"}));
    assert_eq!(bare["required"], json!(["argument-0"]));
    assert!(small(of(1_000, 1_000)).is_none());
    let lists: Map<String, Value> = (0..200)
        .map(|at| (format!("list-{at}"), json!({"type": ["list", "null"], "pattern": "y".repeat(100)})))
        .collect();
    let bare = small(fitted(json!({"properties": lists})).as_object().unwrap().clone()).unwrap();
    assert_eq!(bare["properties"]["list-0"], json!({"type": ["array", "null"], "items": {}}));
}

#[test]
fn references_that_multiply_are_bounded() {
    let mut defs = Map::new();
    for at in 0..60 {
        let next = json!({"$ref": format!("#/$defs/d{}", at + 1)});
        defs.insert(format!("d{at}"), json!({"properties": {"a": next, "b": next, "c": next}}));
    }
    let made = fitted(json!({"$defs": defs, "properties": {"x": {"$ref": "#/$defs/d0"}}}));
    assert!(made["properties"]["x"]["properties"]["a"].is_object());
    assert!(made.to_string().len() < 400_000);
}

#[test]
fn long_descriptions_are_cut() {
    assert_eq!(description(" Adds a task. \n"), "Adds a task.");
    assert_eq!(description(&"é".repeat(2_000)).chars().count(), 1_024);
}

#[test]
fn references_do_not_multiply_what_is_kept() {
    let properties: Map<String, Value> =
        (0..1_000).map(|at| (format!("a{at}"), json!({"$ref": "#/$defs/long"}))).collect();
    let long = json!({"type": "string", "description": "x".repeat(100_000)});
    let made = fitted(json!({"$defs": {"long": long}, "properties": properties}));
    assert_eq!(made["properties"]["a999"], json!({"type": "string"}));
    assert!(made["properties"]["a0"].get("description").is_some());
    assert!(made.to_string().len() < 2 * MOST_BYTES);
}

fn any_schema() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("object"),
        Just("array"),
        Just("string"),
        Just("#"),
        Just("#/$defs/a"),
        Just("#/allOf/0"),
        Just("a")
    ];
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        word.prop_map(Value::from),
        Just(Value::Null),
        Just(json!(1))
    ];
    let key = proptest::sample::select(vec![
        "type",
        "properties",
        "items",
        "allOf",
        "anyOf",
        "oneOf",
        "$ref",
        "$defs",
        "required",
        "enum",
        "not",
        "a",
        "additionalProperties",
        "description",
        "if",
    ]);
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..6).prop_map(|entries| {
                Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn every_schema_becomes_an_object(written in any_schema()) {
        let Value::Object(written) = written else { return Ok(()) };
        let made = schema(&written);
        prop_assert_eq!(&made["type"], "object");
        prop_assert!(made["properties"].is_object());
        for rejected in ["allOf", "anyOf", "oneOf", "not", "enum", "$ref", "$defs"] {
            prop_assert!(!made.contains_key(rejected), "{} in {:?}", rejected, made);
        }
    }

    #[test]
    fn no_two_tools_have_one_name(tools in proptest::collection::vec(("[ab]", "[a-c._ ]{0,3}"), 0..12)) {
        let set: BTreeSet<(&str, &str)> = tools.iter().map(|(s, t)| (s.as_str(), t.as_str())).collect();
        let tools: Vec<(&str, &str)> = set.into_iter().collect();
        let taken = BTreeSet::from(["a", "b_a"]);
        let made = names(&tools, &taken);
        let unlike: BTreeSet<&str> = made.iter().map(String::as_str).collect();
        prop_assert_eq!(unlike.len(), made.len(), "{:?}", made);
        for name in &made {
            prop_assert!(legal(name) && name.len() <= LONGEST_NAME && !taken.contains(name.as_str()), "{}", name);
        }
    }
}
