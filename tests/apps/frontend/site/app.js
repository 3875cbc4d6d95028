document.title = "built";
