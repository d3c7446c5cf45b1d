// http://…/login#token=PASSWORD logs in: what follows # never leaves the browser, so no log holds it.
(() => {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(null, "", location.pathname + location.search);
  document.getElementById("password").value = token;
  document.getElementById("login").submit();
})();
