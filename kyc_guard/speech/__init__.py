"""What is said and heard: speech found and encoded, lips held against it, the voice's own figures."""
