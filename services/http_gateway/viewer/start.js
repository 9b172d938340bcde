"use strict";
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#viewer",
  deepLinking: true,
  docExpansion: "none",
  defaultModelsExpandDepth: -1,
  filter: true,
  // By default the document is sent to a validator elsewhere.
  validatorUrl: null,
});
