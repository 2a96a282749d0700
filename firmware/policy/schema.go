package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
)

// SchemaID is the name of the schema, and where it is published.
const SchemaID = "https://twinkeep.example/policy.schema.json"

// Schema gives the JSON Schema (draft 2020-12) of the document, made from the model: editors complete and check with it.
// It knows the shape; what values mean together is checked by Parse.
func Schema() []byte {
	s := &schemer{definitions: map[string]any{}}
	root := s.object(reflect.TypeFor[Policy]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = SchemaID
	root["title"] = "Twinkeep policy"
	root["$defs"] = s.definitions
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(err) // the schema is made of maps and strings
	}
	return append(out, '\n')
}

// schemer puts every struct into the definitions, once.
type schemer struct{ definitions map[string]any }

func (s *schemer) object(t reflect.Type) map[string]any {
	properties := map[string]any{}
	var required []string
	defaults := reflect.New(t)
	setDefaults(defaults.Elem())
	for _, f := range fields(t) {
		p := s.of(f.typ, &f)
		p["description"] = join(f.doc, p["description"])
		if d, ok := defaultOf(defaults.Elem().Field(f.index)); ok && !f.need {
			p["default"] = d
		}
		properties[f.key] = p
		if f.need {
			required = append(required, f.key)
		}
	}
	out := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func join(doc string, form any) string {
	text, _ := form.(string)
	if doc == "" {
		return text
	}
	if text == "" {
		return doc
	}
	return strings.TrimSuffix(doc, ".") + " (" + text + ")."
}

// defaultOf gives a default that is worth telling: of single values only, and not the zero value of words and numbers.
func defaultOf(v reflect.Value) (any, bool) {
	switch v.Kind() {
	case reflect.Bool:
		return v.Bool(), true
	case reflect.Slice, reflect.Map, reflect.Pointer:
		return nil, false
	}
	if v.IsZero() {
		return nil, false
	}
	if text, ok := v.Interface().(fmt.Stringer); ok {
		return text.String(), true
	}
	switch v.Kind() {
	case reflect.String:
		return v.String(), true
	case reflect.Int:
		return v.Int(), true
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return v.Uint(), true
	}
	return nil, false
}

func (s *schemer) of(t reflect.Type, f *field) map[string]any {
	if kind, ok := f.scalarFor(t); ok {
		switch f.as {
		case "enum":
			return map[string]any{"type": "string", "enum": f.enum}
		case "number":
			return map[string]any{"type": "integer", "minimum": f.min, "maximum": f.max}
		}
		return maps.Clone(kind.schema)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem(), f)
	case reflect.Map:
		value := maps.Clone(scalars[f.as].schema)
		return map[string]any{"type": "object", "additionalProperties": false, "patternProperties": map[string]any{"^[1-8]$": value}}
	case reflect.Slice:
		if _, ok := reflect.New(t).Interface().(group); ok {
			items, _ := t.Elem().FieldByName("Items")
			return map[string]any{"type": "object", "patternProperties": map[string]any{nameForm.String(): s.of(items.Type, &field{})}, "additionalProperties": false}
		}
		return map[string]any{"type": "array", "items": s.of(t.Elem(), f)}
	}
	name := strings.ToLower(t.Name())
	if _, ok := s.definitions[name]; !ok {
		s.definitions[name] = nil // a struct inside itself would end here
		s.definitions[name] = s.object(t)
	}
	return map[string]any{"$ref": "#/$defs/" + name}
}
