"""One output for every element of the input: each step's answer is used, be it the next element, a tag or an error."""
