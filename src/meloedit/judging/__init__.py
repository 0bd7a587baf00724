"""The pair judge: reads a prompt and an edit's wording, and says whether they ask the same."""
