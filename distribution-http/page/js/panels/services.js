/* Services: their methods, and how many nodes have them. */

import { count } from "../format.js";
import { ListPanel } from "../list.js";

export function services() {
  return new ListPanel({
    id: "services",
    title: "Services",
    hint: "Name",
    table: {
      caption: "The services that nodes serve or that are called",
      empty: "No node serves a service, and none is called.",
      key: (service) => `${service.name} ${service.version}`,
      columns: [
        { title: "Service", text: (service) => service.name, sort: (service) => service.name },
        { title: "Version", text: (service) => String(service.version), sort: (service) => service.version, class: "number" },
        { title: "Methods", text: (service) => count(service.methods.length), sort: (service) => service.methods.length, class: "number" },
        { title: "Nodes", text: (service) => count(service.nodes), sort: (service) => service.nodes, class: "number" },
        { title: "Waiting", text: (service) => count(service.waiting), sort: (service) => service.waiting, class: "number" },
        { title: "Running", text: (service) => count(service.running), sort: (service) => service.running, class: "number" },
      ],
      facts: (service) => service.methods.map((method) => {
        const at = method.indexOf(": ");
        return [method.slice(0, at), method.slice(at + 2)];
      }),
    },
  });
}
