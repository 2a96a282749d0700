package board

import (
	"encoding/json"
	"reflect"
	"strings"
)

// SchemaID is the name of the schema, and where it is published.
const SchemaID = "https://twinkeep.example/board.schema.json"

// Schema gives the JSON Schema (draft 2020-12) of board files, made from the model: editors complete and check with it.
// It knows the shape; what values mean together is checked by Parse.
func Schema() []byte {
	root := schemaOf(reflect.TypeFor[Board]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = SchemaID
	root["title"] = "Twinkeep board file"
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(err) // the schema is made of maps and strings
	}
	return append(out, '\n')
}

func schemaOf(t reflect.Type) map[string]any {
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.String:
		return map[string]any{"type": "string"}
	}
	properties, required := map[string]any{}, []string{}
	for _, f := range keys(t) {
		p := schemaOf(f.Type)
		p["description"] = f.Tag.Get("doc")
		if e := f.Tag.Get("enum"); e != "" {
			p["enum"] = strings.Split(e, ",")
		}
		name := f.Tag.Get("yaml")
		properties[name] = p
		if f.Tag.Get("need") != "" {
			required = append(required, name)
		}
	}
	return map[string]any{"type": "object", "additionalProperties": false, "properties": properties, "required": required}
}

// keys are the fields of a struct that are keys in the file, those of inlined structs among them.
func keys(t reflect.Type) []reflect.StructField {
	var out []reflect.StructField
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			out = append(out, keys(f.Type)...)
			continue
		}
		out = append(out, f)
	}
	return out
}

// nearest is the key of board files that is most like a word, or "" when none is.
func nearest(word string) string {
	best, least := "", 3 // typing errors, not guesses
	var walk func(reflect.Type)
	walk = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return
		}
		for _, f := range keys(t) {
			if d := distance(word, f.Tag.Get("yaml")); d < least {
				best, least = f.Tag.Get("yaml"), d
			}
			walk(f.Type)
		}
	}
	if len(word) <= 32 {
		walk(reflect.TypeFor[Board]())
	}
	return best
}

// distance counts the letters to add, remove or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(row[j+1]+1, row[j]+1, cost)
		}
	}
	return row[len(b)]
}
