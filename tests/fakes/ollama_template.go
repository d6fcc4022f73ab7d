// What Ollama does with a TEMPLATE and messages, with Go's own text/template: JSON in, JSON out.
//
//	in:  [{"template": "...", "messages": [{"role": "user", "content": "..."}]}]    out: ["..."]
//
// Messages of one role that follow one another are joined, and system prompts are collected, as Ollama does.
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type Case struct {
	Template string    `json:"template"`
	Messages []Message `json:"messages"`
}

func main() {
	var cases []Case
	check(json.NewDecoder(os.Stdin).Decode(&cases))
	texts := []string{}
	for _, each := range cases {
		texts = append(texts, render(each))
	}
	check(json.NewEncoder(os.Stdout).Encode(texts))
}

func render(each Case) string {
	parsed, err := template.New("").Option("missingkey=zero").Parse(each.Template)
	check(err)
	var system []string
	var messages []*Message
	for i := range each.Messages {
		message := &each.Messages[i]
		if message.Role == "system" {
			system = append(system, message.Content)
		}
		if last := len(messages) - 1; last >= 0 && messages[last].Role == message.Role {
			messages[last].Content += "\n\n" + message.Content
		} else {
			messages = append(messages, message)
		}
	}
	var text strings.Builder
	check(parsed.Execute(&text, map[string]any{
		"System": strings.Join(system, "\n\n"), "Messages": messages, "Response": "",
	}))
	return text.String()
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
